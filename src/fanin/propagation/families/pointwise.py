"""Elementwise operations: any of them, by calling the recorded one on the quadrature nodes.

Nothing is looked up: an operation that ATen tags as pointwise is evaluated where the Gaussian
under its input puts its weight, whether it has ever been seen before or not.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from fanin.propagation.algebra import aligned, multiplied
from fanin.propagation.around_known import (
    Around,
    around_known,
    function_around,
    slopes_around,
)
from fanin.propagation.base import Base, at_power
from fanin.propagation.call import CANNOT_RUN, Call, rebuilt_arguments, resolve
from fanin.propagation.carrying import weighted
from fanin.propagation.elementwise import first_of, is_pointwise
from fanin.propagation.factors import keeps_lengths, mover, times
from fanin.propagation.profile import Profile, at_each_power
from fanin.propagation.quadrature import (
    COUNT,
    WEIGHTS,
    Array,
    expectation,
    pair_moments,
    refined,
)
from fanin.propagation.registry import Pass
from fanin.propagation.state import (
    State,
    function_of,
    gaussian,
    measured,
    with_places_of_pieces,
)

_STEP = 15
PICKS = slice(_STEP // 2, None, _STEP)
"""Nodes per argument where two independent tensors meet in an elementwise operation."""
COARSE = len(range(COUNT)[PICKS])


def pointwise_forward(call: Call) -> State | list[State | None] | None:
    """Moments behind an elementwise operation; None where the operation is no such thing.

    Outputs beside the first are buffers for the backward pass, of which nobody asks.
    """
    if not is_pointwise(call):
        return None
    made = _forward(call)
    count = len(call.operation.outputs)
    return made if made is None or count == 1 else [made, *[None] * (count - 1)]


def _forward(call: Call) -> State | None:
    varying, states = _varying(call)
    if not varying:
        return None
    first = states[varying[0]]
    around = around_known(call)
    if around is not None:
        argument = around.on_nodes().ravel()
        values = _evaluate(call, {varying[0]: argument}, states, argument.shape)
        if values is not None:
            return function_around(around, _tamed(values).reshape(-1, COUNT))
    if all(states[t].base.key == first.base.key for t in varying):
        values = _evaluate(call, {t: states[t].values for t in varying}, states)
        if values is None:
            return None
        finer = partial(_finer, call, varying, states)
        made = function_of(with_places_of_pieces(first), _tamed(values), finer).with_flags(
            *states.values()
        )
        return _hidden(call, varying[0], first, made, states)
    if len(varying) == 2:
        return _two_arguments(call, varying, states)
    return None


def _finer(
    call: Call, varying: Sequence[int], states: dict[int, State], power: float, folds: int
) -> Array:
    """The operation at places of that power, on finer nodes."""
    base = states[varying[0]].base
    arguments = {t: refined(at_power(states[t].values, base, power), folds) for t in varying}
    shape = arguments[varying[0]].shape
    values = _evaluate(call, arguments, states, shape)
    assert values is not None, "it was evaluated on the nodes before"
    return _tamed(values)


def _hidden(call: Call, tensor: int, state: State, made: State, states: dict[int, State]) -> State:
    """Nothing where a mask's "never" becomes 0, as it does in an exponential."""
    if state.blocked is None:
        return made
    level = _evaluate(call, {tensor: np.full(1, state.blocked_level)}, states, (1,))
    if level is None or level[0] != 0.0:
        return made
    return multiplied(made, measured((~state.blocked).double(), keep=True))


def _varying(call: Call) -> tuple[list[int], dict[int, State]]:
    """The inputs that are not one constant, and all inputs under the output's axes."""
    tensors = list(dict.fromkeys(call.operation.inputs))
    states = {t: call.states[t] for t in tensors}
    varying = [t for t in tensors if not states[t].is_constant] or tensors[:1]
    common = states[varying[0]] if varying else None
    for tensor in tensors:
        if common is not None:
            common, _ = aligned(common, states[tensor])
    under = {}
    for tensor in tensors:
        if common is not None:
            _, under[tensor] = aligned(common, states[tensor])
    return varying, under


def _evaluate(
    call: Call,
    values: dict[int, Array],
    states: dict[int, State],
    shape: tuple[int, ...] = (COUNT,),
) -> Array | None:
    function = resolve(call.operation.name, call.operation.overload)
    if function is None:
        return None
    tensors = {
        t: torch.from_numpy(np.ascontiguousarray(values[t]))
        if t in values
        else torch.full((), state.mean, dtype=torch.float64)
        for t, state in states.items()
    }
    _restore_kinds(call, tensors)
    args, kwargs = rebuilt_arguments(call.operation, tensors)
    try:
        with torch.no_grad():
            out = first_of(function(*args, **kwargs))
    except CANNOT_RUN:
        return None
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != shape:
        return None
    return np.asarray(out.to(torch.float64).numpy())


def _restore_kinds(call: Call, tensors: dict[int, torch.Tensor]) -> None:
    for tensor in tensors:
        if call.kind(tensor) == "bool":
            tensors[tensor] = tensors[tensor] > 0.5


def _tamed(values: Array) -> Array:
    """Values with what is not finite replaced by the nearest finite one.

    log(0) and 1/0 are met by single nodes of the grid, never by a model's numbers.
    """
    finite = np.isfinite(values)
    if finite.all():
        return values
    if not finite.any():
        return np.zeros_like(values)
    where = np.flatnonzero(finite)
    return np.interp(np.arange(len(values)), where, values[where])


def _two_arguments(call: Call, varying: Sequence[int], states: dict[int, State]) -> State | None:
    """An elementwise operation on two tensors that have nothing to do with each other."""
    one, two = (states[t] for t in varying)
    grid = np.meshgrid(one.values[PICKS], two.values[PICKS], indexing="ij")
    values = _evaluate(call, dict(zip(varying, grid, strict=True)), states, (COARSE, COARSE))
    if values is None:
        return None
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    w = WEIGHTS[PICKS] / WEIGHTS[PICKS].sum()
    mean = float(w @ values @ w)
    q = float(w @ values**2 @ w)
    # Effects of either argument alone: how much of a pair's covariance survives when the other
    # argument differs.
    by_one = float(w @ (values @ w) ** 2) - mean**2
    by_two = float(w @ (w @ values) ** 2) - mean**2
    both = max(q - mean**2 - by_one - by_two, 0.0)
    c1, c2 = one.base.correlations, two.base.correlations
    pairs = mean**2 + by_one * c1 + by_two * c2 + both * c1 * c2
    return gaussian(one.axes, mean, pairs).with_flags(one, two)


def input_slopes(call: Call, made: State | None = None) -> dict[int, Array] | None:
    """Derivative of the output by each input, on the nodes of the base that they share.

    ``made`` stands for the output where its own state comes from samples.
    """
    function = resolve(call.operation.name, call.operation.overload)
    if function is None:
        return None
    varying, states = _varying(call)
    made = call.made() if made is None else made
    if any(states[t].base.key != made.base.key for t in varying):
        return None
    tensors = {
        t: torch.from_numpy(
            np.ascontiguousarray(state.values) if t in varying else np.full(COUNT, state.mean)
        )
        for t, state in states.items()
    }
    return _slopes(call, tensors)


def _slopes(call: Call, tensors: dict[int, torch.Tensor]) -> dict[int, Array] | None:
    """Derivatives of the recorded operation by each of its inputs."""
    function = resolve(call.operation.name, call.operation.overload)
    assert function is not None
    floats = [t for t in tensors if call.kind(t).startswith(("float", "bfloat"))]
    for tensor in floats:
        tensors[tensor].requires_grad_()
    _restore_kinds(call, tensors)
    args, kwargs = rebuilt_arguments(call.operation, tensors)
    try:
        with torch.enable_grad():
            out = first_of(function(*args, **kwargs))
            if not out.requires_grad:
                return {}
            found = torch.autograd.grad(out.sum(), [tensors[t] for t in floats], allow_unused=True)
    except CANNOT_RUN:
        return None
    return {
        t: _tamed(np.asarray(slope.numpy()))
        for t, slope in zip(floats, found, strict=True)
        if slope is not None
    }


def pointwise_backward(call: Call) -> list[Pass] | None:
    """G · ∂φ for elementwise operations on functions of one base."""
    if not is_pointwise(call):
        return None
    around = around_known(call)
    if around is not None:
        return _around_backward(call, around)
    slopes = input_slopes(call)
    if slopes is None:
        return None
    made = call.made()
    passes = []
    for tensor, slope in slopes.items():
        target = call.states[tensor]
        move = mover(made.axes, target.axes)
        if target.base.key == made.base.key and keeps_lengths(made.axes, target.axes):
            carry = weighted(_steep_places(slope, made.base), made.shape, target.shape)
            passes.append(Pass(tensor, move, slope, carry=carry))
        else:
            factors = pair_moments(slope, made.base.correlations)
            passes.append(Pass(tensor, times(move, factors)))
    return passes


def _around_backward(call: Call, around: Around) -> list[Pass]:
    (tensor,) = call.operation.inputs
    made, target = call.made(), call.states[tensor]

    def slope(argument: Array) -> Array:
        found = _slopes(call, {tensor: torch.from_numpy(argument)})
        return (found or {}).get(tensor, np.zeros_like(argument))

    square, profile = slopes_around(around, slope)
    carry = weighted(profile, made.shape, target.shape)
    return [Pass(tensor, times(mover(made.axes, target.axes), np.asarray(square)), carry=carry)]


def _steep_places(slope: Array, base: Base) -> Profile:
    """E[φ′²] place by place, over what it is for the base as a whole; None where all agree."""
    if base.profile is None:
        return None
    whole = expectation(slope**2)
    if whole <= 0.0:
        return None
    powers = at_each_power(base.profile, lambda p: expectation(at_power(slope, base, p) ** 2))
    found: Array = powers / whole
    return None if np.ptp(found) < 1e-6 else found
