"""States at the start: parameters from a plan or as they stand, buffers, inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from fanin.errors import PlanError
from fanin.graph.graph import Graph, Ref
from fanin.propagation.call import CallParts, functional_name
from fanin.propagation.pieces import Pieces
from fanin.propagation.profile import MOST_PLACES
from fanin.propagation.state import State, constant, independent, measured, with_powers
from fanin.schemes.blockwise import Blockwise
from fanin.schemes.matrix import Form, MatrixScheme
from fanin.schemes.scaled import Scaled
from fanin.schemes.scheme import Scheme

MOST_BUFFER = 1 << 22


def parameter_state(
    name: str, tensor: torch.Tensor, plan: Mapping[str, Any] | None, parts: CallParts
) -> State:
    """State of a parameter: what the plan draws, or the exact moments of what is there.

    Raises:
        PlanError: the parameter is on meta and no plan says how it is drawn.
    """
    assignment = plan.get(name) if plan is not None else None
    scheme = getattr(assignment, "scheme", None)
    if 0 in tensor.shape:
        return constant(tuple(tensor.shape), 0.0)
    if assignment is not None and scheme is not None:
        return _drawn(name, tuple(tensor.shape), assignment)
    if plan is not None and getattr(assignment, "action", None) == "derived":
        lengths = _lengths(tuple(tensor.shape), plan.get(str(getattr(assignment, "tied_to", ""))))
        if lengths is not None:
            return lengths
    if tensor.is_meta:
        if plan is None:
            raise PlanError(
                f"{name!r} is on the meta device and has no values. Pass plan=fanin.plan(model, "
                "inputs), which says how it is drawn, or a model with weights."
            )
        parts.note(f"{name} is left by the plan and has no values: taken as zeros.")
        return constant(tuple(tensor.shape), 0.0)
    if not tensor.is_floating_point():
        return measured(tensor, keep=True)
    _tell_of_nan(name, tensor, parts)
    # What the plan leaves has its values, not a distribution: a state matrix, a table of decays.
    left = assignment is not None or (plan is None and tensor.dim() < 2)
    keep = left and tensor.numel() <= MOST_BUFFER
    if keep:
        return measured(tensor, keep=True)
    return replace(_without_empty(tensor), mirrored=_is_mirrored(tensor.detach()))


def _tell_of_nan(name: str, tensor: torch.Tensor, parts: CallParts) -> None:
    count = int(tensor.isnan().sum())
    if count:
        parts.note(f"{name}: {count} of {tensor.numel()} values are NaN: taken as 0.")


def _is_mirrored(tensor: torch.Tensor) -> bool:
    """Rows, or columns, in two halves of which one is the negative of the other: [[Q], [−Q]]."""
    for axis in range(min(tensor.dim(), 2)):
        size = tensor.shape[axis]
        if size % 2 or tensor.numel() == 0 or tensor.dim() < 2:
            continue
        one, other = tensor.narrow(axis, 0, size // 2), tensor.narrow(axis, size // 2, size // 2)
        # The first unit tells nearly always, without a pass over the whole.
        if torch.equal(one.select(axis, 0), -other.select(axis, 0)) and torch.equal(one, -other):
            return bool(one.any())
    return False


def _without_empty(tensor: torch.Tensor) -> State:
    """Weights that stand there; rows and taps of zeros are told apart.

    Such are a padding token's row, and all but the middle tap of a delta-orthogonal kernel.
    """
    state = measured(tensor, keep=False)
    if tensor.dim() < 2 or tensor.shape[0] > MOST_PLACES:
        return state
    there = (tensor.detach() != 0).cpu()
    rows = there.flatten(1).any(1).reshape(-1, *(1,) * (tensor.dim() - 1))
    taps = there.flatten(0, 1).any(0) if tensor.dim() > 2 else torch.ones(1, dtype=torch.bool)
    filled = rows & taps
    if filled.all() or not filled.any() or filled.numel() > MOST_PLACES:
        return state
    powers = filled.double() / filled.double().mean()
    return with_powers(state, powers.numpy())


def _drawn(name: str, shape: tuple[int, ...], assignment: Any) -> State:
    scheme, axes = assignment.scheme, assignment.axes
    moments = scheme.expected(shape, axes)
    std = moments.std if assignment.std is None else float(assignment.std)
    state = independent(shape, float(moments.mean), float(std))
    rows = [int(row) for row in getattr(assignment, "zero_rows", ())]
    if rows and shape:
        powers = np.ones((shape[0], *(1,) * (len(shape) - 1)))
        powers[rows] = 0.0
        state = with_powers(state, powers)
    drawn = scheme.of if isinstance(scheme, Scaled) else scheme
    mirrored = type(drawn).__name__.startswith("Mirrored")
    if axes.receptive and _on_middle_tap(scheme) and shape:
        form = Form.of(shape, axes)
        taps = np.zeros(form.taps)
        taps[form.centre] = taps.size
        places = [shape[a] if a in axes.receptive else 1 for a in range(len(shape))]
        state = with_powers(state, taps.reshape(places))
    pieces = _pieces(shape, axes, scheme, state)
    if pieces is not None and 0.0 in pieces.factors and shape[pieces.axis] <= MOST_PLACES:
        # Outputs that are exactly 0 are told apart one by one: another tensor may have its own
        # there, and their product is then 0.
        powers = np.repeat(pieces.factors, pieces.sizes)
        others = (1,) * (len(shape) - 1 - pieces.axis)
        return with_powers(state, powers.reshape((1,) * pieces.axis + (-1, *others)))
    return replace(state, mirrored=mirrored, pieces=pieces)


def _on_middle_tap(scheme: Scheme) -> bool:
    if isinstance(scheme, Scaled):
        return _on_middle_tap(scheme.of)
    if isinstance(scheme, Blockwise):
        return all(map(_on_middle_tap, scheme.schemes))
    return isinstance(scheme, MatrixScheme) and scheme.on_middle_tap


def _lengths(shape: tuple[int, ...], carrier: Any) -> State | None:
    """The magnitudes of weight norm, which are set to the lengths of what the plan draws.

    The length of n independent normal numbers has mean square n and variance near 1/2.
    """
    if carrier is None or carrier.scheme is None or carrier.std is None or not prod(shape):
        return None
    moments = carrier.scheme.expected(carrier.shape, carrier.axes)
    own = moments.mean**2 + float(carrier.std) ** 2
    square = own * prod(carrier.shape) / prod(shape)
    variance = min(own / 2, square)
    return independent(shape, (square - variance) ** 0.5, variance**0.5)


def _pieces(shape: tuple[int, ...], axes: Any, scheme: Any, state: State) -> Pieces | None:
    """Stretches of a packed weight whose schemes give them powers of their own."""
    blocks = axes.blocks(shape) if axes.block_sizes else []
    schemes = getattr(scheme, "schemes", ())
    if isinstance(scheme, Scaled) and isinstance(scheme.factor, tuple):
        if len(scheme.factor) != len(blocks):
            return None
        parts = getattr(scheme.of, "schemes", (scheme.of,) * len(blocks))
        schemes = tuple(map(Scaled, parts, scheme.factor))
    if len(schemes) != len(blocks) or len(blocks) < 2 or state.second_moment == 0:
        return None
    powers = []
    for block, part in zip(blocks, schemes, strict=True):
        moments = part.expected(block.shape, block.axes)
        powers.append((moments.std**2 + moments.mean**2) / state.second_moment)
    return Pieces(axes.outputs[0], axes.block_sizes, tuple(powers))


def buffer_state(name: str, tensor: torch.Tensor, parts: CallParts) -> State:
    """State of a buffer: exact, or what its kind usually holds where it is on meta."""
    if not tensor.is_meta:
        return measured(tensor, keep=tensor.numel() <= MOST_BUFFER)
    shape, last = tuple(tensor.shape), name.rpartition(".")[2]
    if last == "running_var":
        return constant(shape, 1.0)
    if last in ("running_mean", "num_batches_tracked"):
        return constant(shape, 0.0)
    value: torch.Tensor
    if not tensor.is_floating_point() and tensor.dtype != torch.bool:
        value = torch.arange(shape[-1]).expand(shape) if shape else torch.zeros(())
        guess = "positions 0, 1, 2, …"
    elif tensor.dtype == torch.bool and len(shape) >= 2:
        value = torch.ones(shape[-2:]).tril().bool().expand(shape)
        guess = "a causal mask"
    elif len(shape) == 1 and "freq" in last:
        n = shape[0]
        value = 10000.0 ** (-torch.arange(n, dtype=torch.float64) / n)
        guess = "rotary frequencies of base 10000"
    else:
        parts.note(f"buffer {name} is on meta and has no values: taken as N(0, 1).")
        return independent(shape, 0.0, 1.0)
    parts.note(f"buffer {name} is on meta and has no values: taken as {guess}.")
    return measured(value, keep=True)


def input_state(graph: Graph, tensor_id: int, tensor: torch.Tensor, parts: CallParts) -> State:
    """State of an input: its moments; on meta, what such an input usually is."""
    if not tensor.is_meta:
        floating = tensor.is_floating_point()
        if floating:
            _tell_of_nan("an input", tensor, parts)
        return measured(tensor, keep=not floating)
    shape = tuple(tensor.shape)
    if tensor.is_floating_point() or tensor.is_complex():
        parts.note("inputs on meta: numbers taken as independent N(0, 1).")
        return independent(shape, 0.0, 1.0)
    rows = _table_rows(graph, tensor_id)
    if rows is None:
        parts.note("inputs on meta: integers that index no table taken as 1.")
        return measured(torch.ones(shape, dtype=tensor.dtype), keep=True)
    parts.note("inputs on meta: indices taken as uniform over their table.")
    drawn = np.random.default_rng(tensor_id).integers(0, rows, shape)
    return measured(torch.from_numpy(np.asarray(drawn)), keep=True)


def _table_rows(graph: Graph, tensor: int) -> int | None:
    """Rows of the embedding that these integers index, through views and casts."""
    seen, front = set[int](), [tensor]
    through = {"view", "_unsafe_view", "reshape", "_to_copy", "clone", "squeeze", "unsqueeze",
               "slice", "select", "expand", "alias", "detach", "transpose"}  # fmt: skip
    while front:
        current = front.pop()
        if current in seen:
            continue
        seen.add(current)
        for operation in graph.consumers.get(current, ()):
            name = functional_name(operation.name)
            if name == "embedding" and operation.args[1] == Ref(current):
                table = operation.args[0]
                return graph.tensors[table.tensor].shape[0]
            if name in through:
                front.extend(operation.outputs)
    return None


def start_states(
    graph: Graph,
    model: nn.Module,
    ids: Mapping[str, int],
    inputs: Sequence[tuple[int, torch.Tensor]],
    plan: Mapping[str, Any] | None,
    parts: CallParts,
) -> dict[int, State]:
    """States of every parameter, buffer and input, by tensor id."""
    states: dict[int, State] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in ids and ids[name] not in states:
            states[ids[name]] = parameter_state(name, parameter.detach(), plan, parts)
    for name, tensor in model.named_buffers(remove_duplicate=False):
        if name in ids and ids[name] not in states:
            states[ids[name]] = buffer_state(name, tensor.detach(), parts)
    for tensor_id, tensor in inputs:
        if tensor_id not in states:
            states[tensor_id] = input_state(graph, tensor_id, tensor.detach(), parts)
    return states
