"""Numbers that have a state's moments, and recorded operations run on them."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fanin.propagation.call import Call, rebuilt_arguments, resolve
from fanin.propagation.layout import atoms_of
from fanin.propagation.quadrature import NODES, Array
from fanin.propagation.state import State

MOST_SAMPLED = 1 << 23
"""Operations on more elements are not run."""


def effect_variances(pairs: Array, mean: float) -> Array:
    """Variances of the random effects that give these pair moments.

    x is the mean plus one effect for each set of atoms, constant along all other atoms. A pair
    that differs in D shares the effects whose atoms avoid D, so that the variances follow by
    Möbius inversion; what comes out negative (anticorrelated pairs) is cut at 0.
    """
    shared = pairs - mean**2
    for axis in range(pairs.ndim):
        same, differ = np.take(shared, 0, axis), np.take(shared, 1, axis)
        shared = np.stack([differ, same - differ], axis=axis)
    cut: Array = np.maximum(shared, 0.0)
    total = max(float(pairs.flat[0]) - mean**2, 0.0)
    return cut * (total / cut.sum()) if cut.sum() > 0 else cut


def draw_like(pairs: Array, mean: float, atoms: tuple[int, ...], seed: int) -> Array:
    """Gaussian numbers with a mean and pair moments, of shape ``atoms``."""
    generator = np.random.default_rng(seed)
    variances = effect_variances(pairs, mean)
    total: Array = np.full(atoms, mean)
    for kind in itertools.product((0, 1), repeat=len(atoms)):
        variance = float(variances[kind])
        if variance > 0:
            shape = tuple(n if bit else 1 for n, bit in zip(atoms, kind, strict=True))
            total = total + np.sqrt(variance) * generator.standard_normal(shape)
    return total


def draw_state(state: State, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers with the moments of a state, through the function that made it."""
    base = state.base
    drawn = draw_like(base.pairs, base.mean, atoms_of(state.axes), seed).reshape(shape)
    if base.std > 0:
        drawn = np.interp((drawn - base.mean) / base.std, NODES, base.values)
        if base.profile is not None:
            drawn = drawn * np.sqrt(base.profile)
        if state.values is not base.values:
            drawn = np.interp(drawn, base.values, state.values)
    else:
        drawn = np.full_like(drawn, state.mean)
    return torch.from_numpy(np.ascontiguousarray(drawn))


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def drawn_inputs(call: Call, again: int = 0) -> dict[int, torch.Tensor] | None:
    """Samples of every tensor that the operation reads; None if there are too many elements.

    Samples that are carried already are used again; functions of one base are drawn together.
    """
    graph, parts = call.graph, call.parts
    shapes = [graph.tensors[t].shape for t in (*call.operation.inputs, *call.operation.outputs)]
    if sum(torch.Size(s).numel() for s in shapes) > MOST_SAMPLED:
        return None
    tensors: dict[int, torch.Tensor] = {}
    for tensor in call.operation.inputs:
        info, state = graph.tensors[tensor], call.states[tensor]
        kind = _dtype(info.dtype)
        if again < len(parts.samples.get(tensor, ())):
            tensors[tensor] = parts.samples[tensor][again]
        elif state.known is not None:
            tensors[tensor] = state.known.to(kind if not kind.is_floating_point else torch.float32)
        elif kind.is_floating_point:
            seed = parts.drawn.setdefault(state.base.key, tensor)
            drawn = draw_state(state, info.shape, seed=seed + (again << 32))
            tensors[tensor] = drawn.to(torch.float32)
        else:
            tensors[tensor] = torch.zeros(info.shape, dtype=kind)
    return tensors


def run_on(call: Call, tensors: Mapping[int, torch.Tensor]) -> list[Any] | None:
    """Outputs of the recorded operation for these inputs; None, and a note, where it cannot run."""
    operation = call.operation
    if operation.overload == "shared_memory":
        seen = tensors[operation.inputs[0]].detach()
        same = tuple(seen.shape) == call.graph.tensors[operation.outputs[0]].shape
        return [seen] if same and len(operation.inputs) == 1 else None
    if call.name == "copy":
        # The functional copy of ATen has no derivative.
        source, shape = call.tensor(1), call.shape()
        return None if source is None else [tensors[source].expand(shape).clone()]
    function = resolve(operation.name, operation.overload)
    if function is None:
        return None
    args, kwargs = rebuilt_arguments(operation, tensors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(operation.index)
        try:
            result = function(*args, **kwargs)
        except (RuntimeError, NotImplementedError, TypeError, IndexError, ValueError) as error:
            call.parts.note(f"{operation.name} could not be run on samples: {error}".split("\n")[0])
            return None
    values = [result] if isinstance(result, torch.Tensor) else list(result)
    return [value for value in values if isinstance(value, torch.Tensor)]


def runs_of(
    call: Call, times: int
) -> tuple[list[dict[int, torch.Tensor]], list[list[torch.Tensor]]]:
    """What so many runs of an operation read and made; both shorter where it cannot run."""
    read, made = [], []
    for again in range(times):
        tensors = drawn_inputs(call, again)
        with torch.no_grad():
            found = None if tensors is None else run_on(call, tensors)
        if tensors is None or found is None:
            break
        read.append(tensors)
        made.append(found)
    return read, made
