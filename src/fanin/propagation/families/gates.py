"""Gates that ATen runs whole: GLU's halves, PReLU's learned slope."""

import numpy as np
import torch

from fanin.propagation.algebra import multiplied
from fanin.propagation.call import Call
from fanin.propagation.carrying import placed
from fanin.propagation.families.slices import part_of, sliced
from fanin.propagation.layout import Axes
from fanin.propagation.quadrature import Array, pair_moments
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, function_of


def _halves(call: Call) -> tuple[State, State, int]:
    state = call.state(0)
    dim = int(call.raw(1, "dim", -1)) % len(state.axes)
    half = state.shape[dim] // 2
    index = call.operation.index
    return sliced(state, dim, half, (index, 0)), sliced(state, dim, half, (index, 1)), dim


def _sigmoid(values: Array) -> Array:
    return np.asarray(torch.sigmoid(torch.from_numpy(np.ascontiguousarray(values))).numpy())


@forward("glu")
def glu(call: Call) -> State:
    """A · σ(b) for the two halves."""
    one, two, _ = _halves(call)
    return multiplied(one, function_of(two, _sigmoid(two.values)))


@backward("glu")
def glu_backward(call: Call) -> list[Pass]:
    """G σ(b) to one half, g a σ′(b) to the other: their mean over the whole axis."""
    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    if tensor is None:
        return []
    one, two, dim = _halves(call)
    gate = _sigmoid(two.values)
    first = function_of(two, gate).pairs
    second = one.pairs * function_of(two, gate * (1 - gate)).pairs
    axes: Axes = made.axes
    half = made.shape[dim]
    return [
        Pass(
            tensor, lambda p: part_of(p * first, axes, state.axes, dim),
            carry=placed(made.shape, state.shape, dim, slice(0, half)),
        ),
        Pass(
            tensor, lambda p: part_of(p * second, axes, state.axes, dim),
            carry=placed(made.shape, state.shape, dim, slice(half, 2 * half)),
        ),
    ]  # fmt: skip


@forward("_prelu_kernel", "prelu")
def prelu(call: Call) -> State:
    """Leaky ReLU with the mean of the learned slopes; their spread is negligible at the start."""
    state, slope = call.state(0), call.state(1)
    values = np.where(state.values > 0, state.values, slope.mean * state.values)
    return function_of(state, values)


@backward("_prelu_kernel", "prelu")
def prelu_backward(call: Call) -> list[Pass]:
    """1 above 0, the slope below; the slope receives g x where x is negative."""
    from fanin.propagation.factors import mover

    state, slope, made = call.state(0), call.state(1), call.made()
    passes = []
    tensor, weight = call.tensor(0), call.tensor(1)
    if tensor is not None:
        slopes = np.where(state.values > 0, 1.0, slope.mean)
        passes.append(Pass(tensor, mover(made.axes, state.axes), slopes))
    if weight is not None and len(made.axes) == len(slope.axes):
        below = np.where(state.values > 0, 0.0, state.values)
        pairs = pair_moments(below, state.base.correlations)
        to = mover(made.axes, slope.axes)
        passes.append(Pass(weight, lambda p: to(p * pairs)))
    return passes
