"""Dividing by a power that few numbers make: E[1/s²] is above 1/E[s²]."""

from collections.abc import Sequence

import numpy as np

from fanin.graph.graph import Operation, Ref
from fanin.propagation.algebra import centred_pairs, mean_pairs
from fanin.propagation.attention_parts import softmax_behind
from fanin.propagation.call import Call, functional_name
from fanin.propagation.directions import maker_of_features, uneven_tokens
from fanin.propagation.layout import Axes
from fanin.propagation.lengths_kept import keeps_lengths
from fanin.propagation.logit_rows import within
from fanin.propagation.norm_settings import ROW_NORMS
from fanin.propagation.profile import even
from fanin.propagation.quadrature import NODES, WEIGHTS, Array, expectation
from fanin.propagation.state import State
from fanin.propagation.written_norms import written_norm

_ROWS_KEPT = {"view", "_unsafe_view", "reshape", "transpose", "permute", "clone", "_to_copy",
              "squeeze", "unsqueeze", "alias", "contiguous", "expand", "select"}  # fmt: skip
_TURNED = {"transpose", "permute"}
_FURTHEST = 12


def spread_of_power(pairs: Array, axes: Axes, dims: Sequence[int], centre: bool) -> float:
    """Relative variance of the power s² that a norm divides by: 2/ν of ν independent numbers.

    1/ν is the mean squared correlation over all pairs of the numbers averaged, each with itself
    included.
    """
    centred = centred_pairs(pairs, axes, dims) if centre else pairs
    if centred.flat[0] <= 0:
        return 0.0
    square = (centred / centred.flat[0]) ** 2
    return 2 * float(mean_pairs(square, axes, dims).flat[0])


def spread_of_few(values: Array, count: int) -> float:
    """Relative variance of the Γ distribution that has the mean of 1/p of p, a mean of few squares.

    E[1/p] = ∫ E[exp(−t x²/n)]ⁿ dt for n independent x: squares of skewed numbers vary by what a few
    large ones add, and are divided by when they are small.

    Args:
        values: of the numbers, on the nodes of their base.
        count: n.
    """
    square = values**2
    power = expectation(square)
    if power <= 0 or count < 1:
        return 0.0
    t = np.exp(np.linspace(-12.0, 12.0, 241))
    each = np.exp(-np.outer(t, square) / (count * power)) @ WEIGHTS
    inverse = float(np.trapezoid(t * each**count, np.log(t)))
    return float(np.clip(1 - 1 / inverse, 0.0, _MOST)) if inverse > 0 else 0.0


_MOST = 0.95
"""Where half of few numbers are 0 all of them are at times, and 1/p has no mean."""


def rows_apart(total: float, few: float) -> tuple[float, float]:
    """The part of a row's variance that its own numbers make, and what it has from elsewhere."""
    return (few, (1 + total) / (1 + few) - 1) if total > few else (total, 0.0)


def varies(
    call: Call, tensor: int, few: float, left: int, rows: tuple[int, int] | None = None
) -> float:
    """Relative variance of a tensor's power from row to row, ``few`` of its own numbers' count.

    Behind a norm every row has the same; a sum of two has what both have and twice their product.
    Behind a matrix a row has what the rows have that the matrix reads, which are uneven where few
    and skewed numbers make them: an eighth of 1 for 32 GELUs. Rows that a matrix over tokens makes
    of few tokens lie in few directions; those of a known table are no chance.

    Args:
        call: the norm, or whatever else divides by that power.
        tensor: what it reads, or was made of.
        few: 2 over its numbers.
        left: operations to go back.
        rows: first and last but one of those that count; None for all.
    """
    maker = call.graph.producer.get(tensor)
    if call.states[tensor].known is not None:
        return 0.0  # its rows are what they are, place by place
    if maker is None or left == 0 or not maker.inputs:
        return few
    name = functional_name(maker.name)
    if name in ROW_NORMS:
        return 0.0
    if name in _PRODUCTS:
        by_weights = 0.0 if keeps_lengths(call, maker) else few
        return (1 + by_weights) * (1 + _of_rows_read(call, maker, left - 1)) - 1
    first = maker.args[0]
    if name == "cat":
        return _of_parts(call, maker, few, left - 1, rows)
    if not isinstance(first, Ref):
        return few
    shape = call.states[tensor].shape
    if name in _TURNED:
        mixed = uneven_tokens(call.graph, call.states, tensor)
        if mixed > 0.0:
            return max(few, mixed)
        source = maker_of_features(call.graph, call.states, tensor)
        if source is not None and source.name == "convolution":
            return (1 + few) * (1 + _of_places_read(call, source)) - 1
    if name == "slice" and call.states[first.tensor].shape[-1:] == shape[-1:]:
        return varies(call, first.tensor, few, left - 1, _rows_left(call, maker, first, rows))
    if name in _ROWS_KEPT and call.states[first.tensor].shape[-1:] == shape[-1:]:
        return varies(call, first.tensor, few, left - 1, rows)
    second = maker.args[1] if len(maker.args) > 1 else None
    if name in ("mul", "div"):
        own = Call(call.graph, maker, call.states, call.parts)
        norm = written_norm(own)
        if norm is not None:
            return 0.0 if norm.dims == (len(shape) - 1,) else few
        scale = own.state(1)
        if scale.is_constant and call.states[first.tensor].shape == shape:
            return varies(call, first.tensor, few, left - 1, rows)
        if name == "mul" and isinstance(second, Ref) and call.states[first.tensor].is_constant:
            return varies(call, second.tensor, few, left - 1, rows)
        return few
    if name in ("add", "sub") and isinstance(second, Ref):
        one, two = call.states[first.tensor], call.states[second.tensor]
        p, q = one.second_moment, two.second_moment
        if one.shape == two.shape and p + q > 0:
            both = [varies(call, ref.tensor, few, left - 1, rows) for ref in (first, second)]
            share, mass = _shares_by_row(one, two, rows)
            rest = 1 - share
            found = both[0] * share**2 + both[1] * rest**2 + 2 * few * share * rest
            return float(min((mass * found).sum(), max(few, *both)))
    return few


_PRODUCTS = ("mm", "addmm")


def _rows_left(
    call: Call, maker: Operation, given: Ref, rows: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Rows of what is sliced, given those that count of a slice."""
    shape = call.states[given.tensor].shape
    if len(maker.args) < 4 or int(maker.args[1]) % len(shape) != len(shape) - 2:
        return rows
    start, stop, step = slice(*maker.args[2:]).indices(shape[-2])
    if step != 1:
        return None
    return (start + rows[0], start + rows[1]) if rows is not None else (start, stop)


def _of_parts(
    call: Call, cat: Operation, few: float, left: int, rows: tuple[int, int] | None
) -> float:
    """Of rows of several tensors: weak ones count more, for 1/s² is large there."""
    rank = len(call.states[cat.outputs[0]].shape)
    dim = (int(cat.args[1]) if len(cat.args) > 1 else 0) % rank
    if dim == rank - 1:
        return few
    found, mass, first = 0.0, 0.0, 0
    for ref in cat.args[0]:
        state = call.states[ref.tensor]
        count = state.shape[dim] if dim == rank - 2 else 1
        if rows is not None and dim == rank - 2:
            count = max(min(rows[1], first + count) - max(rows[0], first), 0)
            first += state.shape[dim]
        if count and state.second_moment > 0:
            weight = count / state.second_moment
            found += weight * varies(call, ref.tensor, few, left, rows if dim != rank - 2 else None)
            mass += weight
    return found / mass if mass > 0 else few


def _shares_by_row(
    one: State, two: State, rows: tuple[int, int] | None = None
) -> tuple[Array, Array]:
    """The first summand's share of each row's power, and how much each row counts.

    What is divided by a row's power is large where the row is weak: tokens of zeros hold nothing
    but what the branches add.
    """
    rank = len(one.shape)
    powers = [state.second_moment * even(state.profile, rank) for state in (one, two)]
    p, q = (power.mean(axis=-1) for power in powers)
    if rows is not None and rank > 1:
        p, q = (x[..., slice(*rows)] if x.shape[-1] > 1 else x for x in (p, q))
    total = p + q
    inverse = np.where(total > 0, 1 / np.where(total > 0, total, 1.0), 0.0)
    return p * inverse, inverse / inverse.sum()


def _of_averages(call: Call, tensor: int) -> float | None:
    """Of rows that attention made: a row that picks one key has more than one of many keys.

    Heads pick on their own; None where no attention made them.
    """
    features = call.graph.tensors[tensor].shape[-1]
    for _ in range(_FURTHEST):
        maker = call.graph.producer.get(tensor)
        if maker is None or not maker.inputs:
            return None
        if maker.name not in _ROWS_KEPT:
            break
        tensor = maker.inputs[0]
    else:
        return None
    shares, value = None, None
    if maker.name == "bmm" and isinstance(maker.args[0], Ref) and isinstance(maker.args[1], Ref):
        softmax = softmax_behind(call.graph, maker.args[0].tensor)
        shares = None if softmax is None else call.parts.kept(softmax, "shares")
        value = call.states[maker.args[1].tensor]
    elif (kept := call.parts.kept(maker, "attention")) is not None:
        shares, value = kept[4], kept[2]
    if shares is None or value is None:
        return None
    made = call.states[maker.outputs[0]]
    squares = shares.state.second_moment * shares.state.shape[shares.axis]
    own = squares * within(value, len(value.axes) - 2)
    part = own / made.second_moment if made.second_moment > 0 else 0.0
    heads = max(features / value.shape[-1], 1.0)
    return float(shares.uneven * min(part, 1.0) ** 2 / heads)


def _of_places_read(call: Call, convolution: Operation) -> float:
    """Relative variance of the power of the channels and places that a convolution reads."""
    given = call.states[convolution.inputs[0]]
    power = expectation(given.values**2)
    if bool(convolution.args[6]) or int(convolution.args[8]) != 1 or power <= 0:
        return 0.0
    return spread_of_few(given.values, int(np.prod(call.states[convolution.inputs[1]].shape[1:])))


def _of_rows_read(call: Call, product: Operation, left: int) -> float:
    """Relative variance of the power of the rows that a matrix reads; 0 where it is unknown."""
    position = 1 if product.name == "addmm" else 0
    ref, weight = product.args[position], product.args[position + 1]
    info = call.graph.tensors
    if not isinstance(ref, Ref) or not isinstance(weight, Ref):
        return 0.0
    if info[ref.tensor].of_parameters or not info[weight.tensor].of_parameters:
        return 0.0
    data, state = ref.tensor, call.states[ref.tensor]
    averages = _of_averages(call, data)
    if averages is not None:
        return averages
    inner, features = data, state.shape[-1]
    # Back to the base that the numbers are a function of.
    for _ in range(left):
        maker = call.graph.producer.get(inner)
        first = maker.args[0] if maker is not None and maker.args else None
        if maker is None or not isinstance(first, Ref):
            return 0.0
        name = functional_name(maker.name)
        if name in ROW_NORMS or name in _PRODUCTS or name in ("add", "sub"):
            break
        given = call.states[first.tensor]
        if given.shape[-1:] != (features,):
            return 0.0
        same = given.base.key == call.states[inner].base.key
        if not same and name not in _ROWS_KEPT:
            return 0.0
        inner = first.tensor
    else:
        return 0.0
    values, base = state.values, call.states[inner].base
    power = expectation(values**2)
    if power <= 0 or base.std == 0.0:
        return 0.0
    few = 2 / features
    rows = varies(call, inner, few, left - 1)
    straight = expectation((values - state.mean) * NODES) ** 2
    own = spread_of_few(values, features)
    if straight >= 0.999 * expectation((values - state.mean) ** 2):
        return rows
    # Of rows of another power: d ln E[φ²]/d ln E[z²] = E[φ² (z² − 1)]/(2 E[φ²]).
    pull = expectation(values**2 * (NODES**2 - 1)) / (2 * power)
    beyond = max((1 + rows) / (1 + few) - 1, 0.0) if rows >= few else 0.0
    fixed = (few - rows) / few if rows < few else 0.0
    return max(own - fixed * pull**2 * few, 0.0) + pull**2 * beyond
