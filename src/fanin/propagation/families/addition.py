"""Sums of two tensors: residual adds, biases, position tables."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fanin.graph.graph import Ref
from fanin.propagation.algebra import added, scaled, shifted
from fanin.propagation.call import Call
from fanin.propagation.covariance import covariance
from fanin.propagation.factors import keeps_lengths, mover
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State


def _factors(call: Call) -> tuple[float, float]:
    alpha = float(call.operation.kwargs.get("alpha", call.raw(2, "alpha", 1) or 1))
    if call.name == "rsub":
        return -alpha, 1.0
    return 1.0, -alpha if call.name == "sub" else alpha


@forward("add", "sub", "rsub")
def add(call: Call) -> State:
    """q_a + q_b + 2 cov: 0 covariance unless the two share something."""
    one, two = call.state(0), call.state(1)
    first, second = _factors(call)
    if not isinstance(call.raw(1), Ref):
        return shifted(scaled(one, first), second * two.mean)
    a, b = scaled(one, first), scaled(two, second)
    shared: Array | float = 0.0
    i, j = call.tensor(0), call.tensor(1)
    if i is not None and j is not None and one.base.key != two.base.key:
        shared = first * second * covariance(call, i, j)
    total = added(a, b, shared)
    # A mirrored layer stays mirrored under a bias of zeros only.
    mirrored = (one.mirrored and two.second_moment == 0) or (
        two.mirrored and one.second_moment == 0
    )
    return replace(total, mirrored=mirrored)


def _weighted(pairs: Array, move: Callable[[Array], Array], slope: float) -> Array:
    return slope**2 * move(pairs)


@backward("add", "sub", "rsub")
def add_backward(call: Call) -> list[Pass]:
    """The gradient goes to both, coherently."""
    made, passes = call.made(), []
    for position, slope in zip((0, 1), _factors(call), strict=True):
        tensor = call.tensor(position)
        if tensor is None:
            continue
        target = call.states[tensor]
        move = mover(made.axes, target.axes)
        if keeps_lengths(made.axes, target.axes):
            passes.append(Pass(tensor, move, slope))
        else:
            passes.append(Pass(tensor, partial(_weighted, move=move, slope=slope)))
    return passes


@forward("lerp")
def lerp(call: Call) -> State | None:
    """X + w (y − x), w one number."""
    weight = call.state(2, "weight")
    if not weight.is_constant:
        return None
    return added(scaled(call.state(0), 1 - weight.mean), scaled(call.state(1), weight.mean))
