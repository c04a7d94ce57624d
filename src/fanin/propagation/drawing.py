"""Numbers that have a state's moments, several runs at once."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from fanin.propagation.call import Call
from fanin.propagation.layout import atoms_of
from fanin.propagation.quadrature import NODES, Array
from fanin.propagation.state import State

MOST_SAMPLED = 1 << 23
"""Operations on more elements are not run."""
MOST_DRAWN = 1 << 22
"""More weights than this, all runs together, are drawn by their moments outside of loops."""


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


def draw_like(pairs: Array, mean: float, atoms: tuple[int, ...], seed: int, runs: int) -> Array:
    """Gaussian numbers with a mean and pair moments, of shape ``(runs, *atoms)``."""
    generator = np.random.default_rng(seed)
    variances = effect_variances(pairs, mean)
    total: Array = np.full((runs, *atoms), mean)
    for kind in itertools.product((0, 1), repeat=len(atoms)):
        variance = float(variances[kind])
        if variance > 0:
            shape = tuple(n if bit else 1 for n, bit in zip(atoms, kind, strict=True))
            total = total + np.sqrt(variance) * generator.standard_normal((runs, *shape))
    return total


def draw_state(state: State, shape: tuple[int, ...], seed: int, runs: int) -> torch.Tensor:
    """Numbers with the moments of a state, through the function that made it.

    Returns:
        ``(runs, *shape)``.
    """
    base = state.base
    drawn = draw_like(base.pairs, base.mean, atoms_of(state.axes), seed, runs)
    drawn = drawn.reshape(runs, *shape)
    if base.std > 0:
        drawn = np.interp((drawn - base.mean) / base.std, NODES, base.values)
        if base.profile is not None:
            drawn = drawn * np.sqrt(base.profile)
        if state.values is not base.values:
            drawn = np.interp(drawn, base.values, state.values)
    else:
        drawn = np.full_like(drawn, state.mean)
    if state.pieces is not None:
        drawn = drawn * np.sqrt(state.pieces.powers(len(shape)))
    return torch.from_numpy(np.ascontiguousarray(drawn))


@dataclass(frozen=True)
class Drawn:
    """What an operation reads.

    Args:
        runs: how many runs.
        varying: tensor -> its numbers in every run, ``(runs, *shape)``.
        fixed: tensor -> the same numbers in all runs, ``shape``.
    """

    runs: int
    varying: dict[int, torch.Tensor]
    fixed: dict[int, torch.Tensor]


def dtype_of(name: str) -> torch.dtype:
    """The dtype that a graph calls so."""
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def drawn_inputs(call: Call, runs: int, *, in_loop: bool = False) -> Drawn | None:
    """Samples of every tensor that the operation reads; None if there are too many elements.

    What is in a loop was counted as a whole before, and is not counted again.

    Samples that are carried already are used again; functions of one base are drawn together;
    weights are drawn as their schemes draw them.
    """
    graph, parts = call.graph, call.parts
    shapes = [graph.tensors[t].shape for t in (*call.operation.inputs, *call.operation.outputs)]
    if not in_loop and sum(torch.Size(s).numel() for s in shapes) > MOST_SAMPLED:
        return None
    drawn = Drawn(runs, {}, {})
    for tensor in call.operation.inputs:
        info, state = graph.tensors[tensor], call.states[tensor]
        kind = dtype_of(info.dtype)
        if runs <= len(parts.samples.get(tensor, ())):
            drawn.varying[tensor] = parts.samples[tensor][:runs]
        elif state.known is not None:
            keep = not kind.is_floating_point
            drawn.fixed[tensor] = state.known.to("cpu", kind if keep else torch.float32)
        elif kind.is_floating_point:
            most = None if in_loop else MOST_DRAWN
            weight = None if parts.weights is None else parts.weights.drawn(tensor, runs, most)
            if weight is not None:
                drawn.varying[tensor] = weight
                continue
            seed = parts.drawn.setdefault(state.base.key, tensor)
            drawn.varying[tensor] = draw_state(state, info.shape, seed, runs).to(torch.float32)
        else:
            drawn.fixed[tensor] = torch.zeros(info.shape, dtype=kind)
    return drawn
