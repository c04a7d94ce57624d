"""Means, sums, variances and norms over axes."""

import numpy as np

from fanin.propagation.algebra import averaged, centred_pairs, one_signed, positions_of
from fanin.propagation.call import Call
from fanin.propagation.carrying import grown
from fanin.propagation.layout import Axes, atoms_of, fit
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, function_of, gaussian


def _dims(call: Call, position: int = 1) -> list[int]:
    value = call.raw(position, "dim")
    rank = len(call.state(0).axes)
    if value is None or (
        call.operation.overload in ("", "default")
        and position == 1
        and (not isinstance(value, tuple | list | int))
    ):
        return list(range(rank))
    dims = [value] if isinstance(value, int) else list(value)
    return [d % max(rank, 1) for d in dims] or list(range(rank))


def _keep(call: Call) -> bool:
    return len(call.shape()) == len(call.state(0).axes)


@forward("mean", "sum", "nansum")
def mean(call: Call) -> State:
    """Averages of pairs: μ² + var (1 + (k − 1) ρ) / k."""
    return averaged(call.state(0), _dims(call), _keep(call), total=call.name != "mean")


def _grown(axes: Axes, dims: list[int], made: Axes, pairs: Array) -> tuple[Axes, Array]:
    """The reduced tensor's pairs with the reduced axes back, along which all agree."""
    at = 0
    kept = iter(made if len(made) != len(axes) else [a for i, a in enumerate(made)
                                                     if i not in dims])  # fmt: skip
    grown: list[tuple[int, ...]] = []
    for i, axis in enumerate(axes):
        if i in dims:
            for _ in axis:
                pairs = np.stack([pairs, pairs], axis=at)
                at += 1
            grown.append(axis)
        else:
            left = next(kept)
            at += len(left)
            grown.append(left)
    return tuple(grown), pairs


@backward("mean", "sum", "nansum")
def mean_backward(call: Call) -> list[Pass]:
    """G / k to each, the same for all."""
    tensor, state, made = call.tensor(0), call.state(0), call.made()
    if tensor is None:
        return []
    dims = _dims(call)
    count = float(np.prod([state.shape[d] for d in dims])) if call.name == "mean" else 1.0

    def move(pairs: Array) -> Array:
        axes, found = _grown(state.axes, dims, made.axes, pairs)
        return fit(found, axes, state.axes)

    return [Pass(tensor, move, 1.0 / count, carry=grown(len(state.axes), dims))]


@forward("var", "std", "var_mean", "std_mean")
def variance(call: Call) -> list[State] | State:
    """The centred second moment; its own spread from the number of independent terms."""
    state = call.state(0)
    value = call.raw(1, "dim")
    dims = _dims(call) if isinstance(value, int | tuple | list) else list(range(len(state.axes)))
    atoms = atoms_of(state.axes)
    positions = positions_of(state.axes, dims)
    count = float(np.prod([atoms[p] for p in positions])) if positions else 1.0
    centred = float(centred_pairs(state.pairs, state.axes, dims).flat[0])
    correction = call.operation.kwargs.get("correction", 1)
    unbiased = 1 if correction is None else float(correction)
    level = centred * count / max(count - unbiased, 1e-9) if count > 1 else 0.0
    keep = _keep(call)
    axes = averaged(state, dims, keep).axes
    pairs = np.full((2,) * len(atoms_of(axes)), level**2)
    pairs.flat[0] += 2 * level**2 / max(count - 1, 1.0)
    made = one_signed(gaussian(axes, level, pairs)).with_flags(state)
    if call.name.startswith("std"):
        made = function_of(made, np.sqrt(np.maximum(made.values, 0.0)))
    if not call.name.endswith("_mean"):
        return made
    return [made, averaged(state, dims, keep)]


@forward("linalg_vector_norm", "norm", "frobenius_norm")
def vector_norm(call: Call) -> State | None:
    """√Σ x² from the second moment, where the order is 2."""
    if call.name != "frobenius_norm" and (call.raw(1, "ord", 2) or 2) not in (2, 2.0):
        return None
    state = call.state(0)
    value = call.raw(2 if call.name != "frobenius_norm" else 1, "dim")
    rank = len(state.axes)
    dims = (
        list(range(rank)) if value is None
        else [value % rank] if isinstance(value, int)
        else [d % rank for d in value] or list(range(rank))
    )  # fmt: skip
    square = function_of(state, state.values**2)
    total = averaged(square, dims, _keep(call), total=True)
    return function_of(total, np.sqrt(np.maximum(total.values, 0.0)))
