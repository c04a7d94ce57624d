"""What a number's own size has to do with the gradient that it receives.

y = Σ w x holds each x by its weight. Where an activation behind passes more of the gradient the
larger y² is, a large x has opened the gates through which its own gradient comes, and most those
of its largest weights. A norm behind y divides by what a large x has made larger. Both are of the
order of one over the number of terms: a tenth of the power behind a depthwise kernel, nothing in
a wide layer.
"""

from math import prod

import numpy as np

from fanin.graph.graph import Operation
from fanin.propagation.call import Call, functional_name
from fanin.propagation.lengths_kept import keeps_lengths
from fanin.propagation.norm_neighbours import VIEWS, norm_behind, normalised_by_channel, only_reader
from fanin.propagation.norm_settings import ROW_NORMS
from fanin.propagation.quadrature import NODES, Array, expectation
from fanin.propagation.state import State
from fanin.propagation.taps import behind_padding, inverse_taps_of_places

_STRAIGHT = 1e-6
_LEAST = 0.05
"""First orders of a large share would take all of it and more."""


def echo(call: Call, data: int, weight: int, gates: Array | None) -> Array | None:
    """Root mean square of the gradient of a product's input, on the nodes of its base.

    E[g² | x] = E[g²] (1 + s c (t − 1)/2) for the share s = E[w⁴]/(E[w²] Σ E[w²]) of x² in the
    y² that it is read by, weighted as the gradient is, t = x²/E[x²] and, by Stein's lemma,
    c = E[γ² (z² − 1)]/E[γ²] of the gates γ.

    Args:
        call: a matrix product or convolution.
        data: position of the input among its arguments.
        weight: position of the weights.
        gates: the same of the gradient that comes, on the nodes of the output's base.

    Returns:
        Values of mean square 1; None where the size does not matter.
    """
    x, w = call.state(data), call.state(weight)
    if w.known is not None or x.base.std == 0.0 or w.mean**2 > 0.01 * w.second_moment:
        return None
    inner = x
    if call.name == "convolution":
        if bool(call.raw(6)):
            return None
        inner = behind_padding(call)[0]
        terms = w.shape[1] / max(inverse_taps_of_places(call), 1e-12)
    else:
        terms = float(w.shape[0])
    if _is_straight(inner) or inner.base.std == 0.0:
        return None
    norm = norm_behind(call)
    size = (inner.values - (inner.mean if norm is not None else 0.0)) ** 2
    size = size / expectation(size)
    share = 3 / (terms + 2)
    found = np.ones_like(NODES)
    if gates is not None:
        square = expectation(gates**2)
        opened = expectation(gates**2 * (NODES**2 - 1)) / square if square > 0 else 0.0
        found = found + share * opened / 2 * (size - 1)
    found = found / np.maximum(1 + _share_of_norm(call, inner, norm, terms, size), _LEAST)
    found = np.maximum(found, _LEAST)
    return np.asarray(np.sqrt(found / expectation(found)))


def left_of_rows(call: Call, terms: float) -> float:
    """What a norm of the rows that a product makes leaves of the gradient of the rows it reads.

    The norm takes off what lies along y = W x. As g·y = 0 is W g·x = 0, of n numbers read one
    direction is gone, whatever the number of those made; a matrix with orthonormal columns sends
    all the rest on.
    """
    if terms <= 1 or keeps_lengths(call, call.operation) or not _rows_behind(call):
        return 1.0
    return 1 - 1 / terms


def left_of_channel(call: Call) -> tuple[float, float]:
    """What is left of a gradient's mean and of its part along the numbers that a batch norm made.

    A batch norm behind a depthwise convolution has taken off what lies along the channel's
    y = w x; as the channel is read by nothing else, its gradient g then has Σ g x = 0. Of g φ′(z)
    along z there is E[(φ′z)²] − E[φ′z x]²/E[x²], where strangers would leave all, and likewise of
    its mean E[φ′²] − E[φ′x]²/E[x²].

    Args:
        call: the batch norm that made z.
    """
    tensor = call.operation.outputs[0]
    state = call.states[tensor]
    for _ in range(6):
        reader = only_reader(call.graph, tensor)
        if reader is None:
            return 1.0, 1.0
        made = call.states[reader.outputs[0]]
        if reader.name == "convolution":
            break
        if reader.name != "constant_pad_nd":
            if made.base.key != state.base.key or state.base.std == 0.0:
                return 1.0, 1.0
            state = made
        tensor = reader.outputs[0]
    else:
        return 1.0, 1.0
    behind = Call(call.graph, reader, call.states, call.parts)
    groups, weight = int(behind.raw(8)), behind.state(1).shape
    norm = norm_behind(behind)
    if norm is None or weight[1] != 1 or weight[0] != groups or groups == 1:
        return 1.0, 1.0
    z = (state.base.values - state.base.mean) / state.base.std
    slope = _slopes(state)
    x = expectation(state.values**2)
    beta = call.parts.kept(norm, "divided").expected()[0]

    def left(direction: Array) -> float:
        whole = expectation(direction**2)
        shared = expectation(direction * state.values) ** 2
        return float(1 - beta * shared / (x * whole)) if x > 0 and whole > 0 else 1.0

    return left(slope), left(slope * z)


def _slopes(state: State) -> Array:
    """φ′ on the nodes, from the values of φ and of its base; 0 where the base stands still."""
    steps = np.diff(state.base.values)
    between = np.divide(np.diff(state.values), steps, out=np.zeros_like(steps), where=steps > 1e-9)
    return np.concatenate([between[:1], (between[1:] + between[:-1]) / 2, between[-1:]])


def _is_straight(state: State) -> bool:
    """Whether a tensor is its own base: its size then meets no slope."""
    varying = state.values - state.mean
    own = expectation(varying**2)
    return own <= 0 or expectation(varying * NODES) ** 2 >= (1 - _STRAIGHT) * own


def _share_of_norm(
    call: Call, x: State, norm: Operation | None, terms: float, size: Array
) -> Array | float:
    """By how much one number of that size makes the power larger that a norm divides by."""
    made = call.shape()
    if norm is not None:
        numbers = prod(made) / made[1]
        if call.name == "convolution":
            given = x.shape
            inputs = call.state(1).shape[1]
            readers = terms / inputs * numbers * given[1] / prod(given)
        else:
            readers = 1.0
        if normalised_by_channel(call):
            # What z² = x²'s share of a power that a norm has fixed takes, other numbers lack.
            level = ((x.base.values - x.base.mean) / x.base.std) ** 2 - 1
            spread = expectation(level**2)
            fixed = expectation((size - 1) * level) / spread if spread > 0 else 0.0
            size = size - fixed * level
        share = (readers + 2) / (terms + 2) / numbers
        return np.asarray(share * (size - 1))
    if _rows_behind(call):
        # Divided by a large row, and nothing is left along it.
        return np.asarray(2 * (size - 1) / terms)
    return 0.0


def _rows_behind(call: Call) -> bool:
    """Whether a norm of each row alone reads the product, through views."""
    tensor = call.operation.outputs[0]
    for _ in range(12):
        reader = only_reader(call.graph, tensor)
        if reader is None:
            return False
        if functional_name(reader.name) in ROW_NORMS:
            return True
        if reader.name not in VIEWS:
            return False
        tensor = reader.outputs[0]
    return False
