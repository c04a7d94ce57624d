"""Products of two tensors elementwise: gates, masks, learned scales, rotary embeddings."""

from dataclasses import replace

import numpy as np
import torch

from fanin.graph.graph import Ref
from fanin.propagation.algebra import aligned, either, multiplied, scaled
from fanin.propagation.call import Call
from fanin.propagation.factors import by_factor, keeps_lengths, mover, times
from fanin.propagation.families.norms_by_hand import passes_of_written_norm
from fanin.propagation.families.pointwise import input_slopes, pointwise_backward, pointwise_forward
from fanin.propagation.quadrature import expectation
from fanin.propagation.registry import Outcome, Pass, backward, forward
from fanin.propagation.state import MASKING, State, function_of, gaussian
from fanin.propagation.written_norms import written_norm


@forward("mul", "multiply")
def multiply(call: Call) -> State:
    """q_a q_b: gates from separate matrices on one x are independent at large width."""
    one, two = call.state(0), call.state(1)
    if not isinstance(call.raw(1), Ref):
        return scaled(one, two.mean)
    return multiplied(one, two)


@backward("mul", "multiply")
def multiply_backward(call: Call) -> list[Pass]:
    """G · the other factor."""
    one, two, made = call.tensor(0), call.tensor(1), call.made()
    if one is None or two is None:
        tensor, factor = (one, call.state(1)) if one is not None else (two, call.state(0))
        if tensor is None:
            return []
        return [Pass(tensor, mover(made.axes, call.states[tensor].axes), factor.mean)]
    passes: list[Pass] = []
    a, b = call.states[one], call.states[two]
    norm = written_norm(call)
    shared = a.base.key == b.base.key == made.base.key
    if shared and keeps_lengths(made.axes, a.axes) and keeps_lengths(made.axes, b.axes):
        return [
            Pass(one, mover(made.axes, a.axes), b.values),
            Pass(two, mover(made.axes, b.axes), a.values),
        ]
    for tensor, target, other in ((one, a, b), (two, b, a)):
        passes += by_factor(tensor, target, made, other)
    if norm is not None:
        return passes_of_written_norm(call, norm, passes)
    return [replace(p, along_output=_one_per_row(call, p.tensor)) for p in passes]


def _one_per_row(call: Call, tensor: int) -> bool:
    """Whether a factor or divisor is one number for all features of a position."""
    shape, made = call.graph.tensors[tensor].shape, call.shape()
    return len(shape) == len(made) > 1 and shape[-1] == 1 < made[-1] and shape[:-1] == made[:-1]


@forward("div", "divide", "true_divide")
def divide(call: Call) -> Outcome | None:
    """X · (1/y), the reciprocal by quadrature where y keeps clear of 0."""
    two = call.state(1)
    if isinstance(call.raw(2, "rounding_mode"), str):
        return pointwise_forward(call)
    if two.is_constant:
        return scaled(call.state(0), 1 / two.mean if two.mean else 0.0)
    if isinstance(call.raw(0), Ref) and call.state(0).base.key == two.base.key:
        return pointwise_forward(call)
    inverse = reciprocal(two)
    return None if inverse is None else multiplied(call.state(0), inverse)


def reciprocal(state: State) -> State | None:
    """1/y; None where y comes so near to 0 that its moments do not exist."""
    low = float(abs(state.values).min())
    if low == 0.0 or expectation((state.values > 0).astype(float)) not in (0.0, 1.0):
        clear = abs(state.mean) > 4 * state.variance**0.5
        if not clear:
            return None
        # Too far out to happen: the few nodes beyond the sign change are held at the edge.
        edge = abs(state.mean) - 4 * state.variance**0.5
        held = abs(state.values).clip(min=edge)
        return function_of(state, (1 if state.mean > 0 else -1) / held)
    return function_of(state, 1 / state.values)


@backward("div", "divide", "true_divide")
def divide_backward(call: Call) -> list[Pass]:
    """G / y to the dividend; −g x / y² to the divisor."""
    made, two = call.made(), call.state(1)
    one_id, two_id = call.tensor(0), call.tensor(1)
    if two.is_constant:
        if one_id is None:
            return []
        move = mover(made.axes, call.states[one_id].axes)
        return [Pass(one_id, move, 1 / two.mean if two.mean else 0.0)]
    if input_slopes(call) and one_id is not None and call.state(0).base.key == two.base.key:
        return pointwise_backward(call) or []
    inverse = reciprocal(two)
    if inverse is None:
        return []
    passes: list[Pass] = []
    if one_id is not None:
        passes += by_factor(one_id, call.states[one_id], made, inverse)
    if two_id is not None:
        _, square = aligned(made, function_of(inverse, inverse.values**2))
        top = aligned(made, call.state(0))[1]
        pairs = square.pairs * top.pairs
        move = times(mover(made.axes, two.axes), pairs)
        passes.append(Pass(two_id, move, along_output=_one_per_row(call, two_id)))
    norm = written_norm(call)
    return passes if norm is None else passes_of_written_norm(call, norm, passes)


def _chance(call: Call, position: int) -> State:
    return call.state(position)


@forward("where")
def where(call: Call) -> State:
    """A mixture: the condition's share of one, the rest of the other."""
    chosen = call.state(0)
    one, two = call.state(1), call.state(2)
    return mixed(chosen, one, two)


def mixed(chosen: State, one: State, two: State) -> State:
    """chosen·x + (1 − chosen)·y for a 0/1 tensor ``chosen``."""
    from fanin.propagation.algebra import added, shifted

    if chosen.known is not None:
        if _is_never(two):
            return blocked_where(one, ~chosen.known.bool(), two.mean + two.blocked_level)
        if _is_never(one):
            return blocked_where(two, chosen.known.bool(), one.mean + one.blocked_level)
    opposite = shifted(scaled(chosen, -1.0), 1.0)
    a, b = multiplied(one, chosen), multiplied(two, opposite)
    # x·1[A] and y·1[not A] never meet: E[ab] = 0, which the means do not say.
    a, b = aligned(a, b)
    total = added(a, b)
    meet = E_product(chosen, opposite)
    c, _ = aligned(meet, a)
    _, x = aligned(a, one)
    _, y = aligned(a, two)
    pairs = a.pairs + b.pairs + 2 * x.mean * y.mean * aligned(a, c)[1].pairs
    return gaussian(total.axes, a.mean + b.mean, pairs).with_flags(one, two)


def E_product(chosen: State, opposite: State) -> State:  # noqa: N802
    """A holder of E[c (1 − c′)] as pair moments: E[c] − E[c c′]."""
    return gaussian(chosen.axes, 0.0, chosen.mean - chosen.pairs)


def _is_never(state: State) -> bool:
    """Whether a mask holds it: a huge negative number or −∞ everywhere."""
    everywhere = state.blocked is not None and bool(state.blocked.all())
    return everywhere or state.mean == -np.inf or (state.is_constant and state.mean < MASKING)


def blocked_where(state: State, blocked: torch.Tensor, level: float) -> State:
    """The state with a mask of positions that a softmax must not see."""
    return replace(state, known=None, blocked=either(state.blocked, blocked), blocked_level=level)


@backward("where")
def where_backward(call: Call) -> list[Pass]:
    """Each side receives the gradient where it was chosen."""
    from fanin.propagation.algebra import shifted

    made, chosen = call.made(), call.state(0)
    opposite = shifted(scaled(chosen, -1.0), 1.0)
    passes: list[Pass] = []
    for position, share in ((1, chosen), (2, opposite)):
        tensor = call.tensor(position)
        if tensor is not None:
            passes += by_factor(tensor, call.states[tensor], made, share)
    return passes


@forward("masked_fill")
def masked_fill(call: Call) -> State:
    """The value where the mask is true."""
    return mixed(call.state(1), call.state(2), call.state(0))


@backward("masked_fill")
def masked_fill_backward(call: Call) -> list[Pass]:
    """0 where the value was filled in."""
    from fanin.propagation.algebra import shifted

    tensor, made = call.tensor(0), call.made()
    if tensor is None:
        return []
    opposite = shifted(scaled(call.state(1), -1.0), 1.0)
    return by_factor(tensor, call.states[tensor], made, opposite)


@forward("addcmul")
def addcmul(call: Call) -> State:
    """X + value · y · z."""
    from fanin.propagation.algebra import added

    value = float(call.operation.kwargs.get("value", 1))
    return added(call.state(0), scaled(multiplied(call.state(1), call.state(2)), value))
