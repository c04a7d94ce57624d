"""What a tensor changes by when an earlier one is stretched, operation by operation."""

from collections.abc import Mapping
from math import prod

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.families.attention import FUSED
from fanin.propagation.families.pointwise import input_slopes, pointwise_forward
from fanin.propagation.quadrature import expectation
from fanin.propagation.state import State
from fanin.propagation.stretch import (
    STATISTIC,
    Stretch,
    centred,
    of_values,
    scaled,
    times,
    whole_times,
)

_LINEAR = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "squeeze",
    "unsqueeze", "flatten", "unflatten", "clone", "contiguous", "_to_copy", "alias", "expand",
    "slice", "select", "split", "split_with_sizes", "unsafe_split", "chunk", "neg",
    "unbind", "cat", "index", "index_select",
}  # fmt: skip
_PARTS = {"slice", "select", "split", "split_with_sizes", "unsafe_split", "chunk", "unbind"}
_EVEN = 1e-6
_AVERAGES = {"mean", "sum"}
_LENGTHS = {"linalg_vector_norm": 1, "norm": 1, "std": 1, "var": 2}
_PRODUCTS = {"mm": (0, 1), "addmm": (1, 2), "bmm": (0, 1), "_grouped_mm": (0, 1)}
STATISTICS = ("native_layer_norm", "native_group_norm", "_fused_rms_norm", "rms_norm")


class Ended(Exception):  # noqa: N818
    """The trail ends at an operation's inputs."""


def through(call: Call, stretched: Mapping[int, Stretch]) -> dict[int, Stretch]:
    """How the outputs are stretched.

    Raises:
        Ended: the trail ends at this operation's inputs.
    """
    name, operation = call.name, call.operation
    inputs = [t for t in dict.fromkeys(operation.inputs) if t in stretched]
    if name in STATISTICS:
        centre = name in ("native_layer_norm", "native_group_norm")
        return {operation.outputs[0]: _turned(call, stretched.get(call.tensor(0) or -1),
                                              centre=centre)}  # fmt: skip
    if name in _LENGTHS and stretched[inputs[0]].degree is None:
        return dict.fromkeys(operation.outputs, STATISTIC)
    if name in _LENGTHS:
        degree = _LENGTHS[name] * (stretched[inputs[0]].degree or 0.0)
        return {operation.outputs[0]: whole_times(call.made(), degree)}
    if name in _AVERAGES:
        site = call.states[next(iter(stretched))]
        return _average(call, stretched[inputs[0]], prod(site.shape[:-1]))
    if name in _LINEAR:
        return _linear(call, stretched)
    if name in FUSED:
        return _attended(call, stretched.get(call.tensor(2) or -1))
    if name in _PRODUCTS:
        return _matrix_product(call, stretched)
    if name in ("add", "sub") and len(operation.outputs) == 1:
        return _sum(call, stretched)
    if name in ("mul", "div") and len(operation.outputs) == 1:
        return _product(call, stretched)
    return _elementwise(call, stretched, inputs)


def _turned(call: Call, stretch: Stretch | None, *, centre: bool = False) -> Stretch:
    """Behind a norm: what is left of the change without its part along the tensor.

    Where the norm takes the mean off, the mean of the change goes with it.
    """
    source, made = call.state(0), call.made()
    q = source.second_moment
    if stretch is None or q <= 0:
        raise Ended
    square, cross = stretch.square, stretch.cross
    if centre and stretch.values is not None:
        level = expectation(stretch.values)
        square, cross, q = square - level**2, cross - level * source.mean, source.variance
    if q <= 1e-12 * source.second_moment:
        raise Ended
    left = max(square - cross**2 / q, 0.0)
    return Stretch(None, None, left * made.second_moment / q, 0.0)


def _average(call: Call, stretch: Stretch, rows: int) -> dict[int, Stretch]:
    """A sum over features, over places, or over what the experts made of one of ``rows`` tokens."""
    state, made, out = call.state(0), call.made(), call.operation.outputs[0]
    if made.shape[-1:] != state.shape[-1:]:
        return {out: STATISTIC if stretch.degree is None else whole_times(made, stretch.degree)}
    if prod(made.shape[:-1]) == rows < prod(state.shape[:-1]):
        if stretch.degree is not None:
            return {out: whole_times(made, stretch.degree)}
        q = state.second_moment
        return {out: scaled(stretch, made.second_moment / q if q > 0 else 0.0)}
    count = prod(state.shape) / max(prod(made.shape), 1)
    each = stretch.square / count if call.name == "mean" else stretch.square * count
    return {out: _one_of(made, each, stretch, 1 / count)}


def _one_of(made: State, each: float, stretch: Stretch, share: float) -> Stretch:
    """What a sum over places changes by when each place is stretched on its own.

    Args:
        made: the sum.
        each: Σ over the places of their squares.
        stretch: of the places.
        share: Σ a² of the places' shares a in the sum, of which each has a Σa a′ E[x x′] = a E[y²].
    """
    degree = stretch.degree if stretch.degree is not None else 1.0
    return Stretch(None, None, each, degree * min(share, 1.0) ** 0.5 * made.second_moment)


def _attended(call: Call, stretch: Stretch | None) -> dict[int, Stretch]:
    """Attention's output changes by the share of each value."""
    if stretch is None:
        raise Ended
    shares = call.parts.kept(call.operation, "attention")[5]
    share = shares.second_moment * shares.shape[-1]
    return {call.operation.outputs[0]: _one_of(call.made(), share * stretch.square, stretch, share)}


def _linear(call: Call, stretched: Mapping[int, Stretch]) -> dict[int, Stretch]:
    operation = call.operation
    others = [t for t in operation.inputs if t not in stretched]
    if call.name == "cat" and any(prod(call.states[t].shape) for t in others):
        raise Ended
    held = [stretched[t] for t in dict.fromkeys(operation.inputs) if t in stretched]
    degrees = {stretch.degree for stretch in held}
    if len(degrees) == 1 and None not in degrees:
        (degree,) = degrees
        assert degree is not None
        return {out: whole_times(call.states[out], degree) for out in operation.outputs}
    if len(held) != 1:
        raise Ended
    if operation.name not in _PARTS:
        return dict.fromkeys(operation.outputs, held[0])
    # A part of more power than the whole changes by more.
    q = call.state(0).second_moment
    ratios = {out: call.states[out].second_moment / q if q > 0 else 1.0
              for out in operation.outputs}  # fmt: skip
    return {out: held[0] if abs(ratio - 1) <= _EVEN else scaled(held[0], ratio)
            for out, ratio in ratios.items()}  # fmt: skip


def _matrix_product(call: Call, stretched: Mapping[int, Stretch]) -> dict[int, Stretch]:
    """A fresh matrix multiplies the change as it does the tensor."""
    i, j = _PRODUCTS[call.name]
    one, two = call.tensor(i), call.tensor(j)
    if (one in stretched) == (two in stretched):
        raise Ended
    k, tensor = (i, one) if one in stretched else (j, two)
    assert tensor is not None
    made, stretch, q = call.made(), stretched[tensor], call.state(k).second_moment
    if call.name == "bmm" and k == 1 and one is not None:
        # Rows of shares: a sum over places, each stretched on its own.
        rows = call.state(0)
        share = rows.second_moment * rows.shape[-1]
        each = share * stretch.square
        return {call.operation.outputs[0]: _one_of(made, each, stretch, share)}
    bias = call.optional(0) if call.name == "addmm" else None
    added = 0.0 if bias is None else bias.second_moment
    if stretch.degree is not None and added == 0.0:
        return {call.operation.outputs[0]: whole_times(made, stretch.degree)}
    if q <= 0:
        raise Ended
    ratio = max(made.second_moment - added, 0.0) / q
    return {call.operation.outputs[0]: scaled(stretch, ratio)}


def _sum(call: Call, stretched: Mapping[int, Stretch]) -> dict[int, Stretch]:
    made, out = call.made(), call.operation.outputs[0]
    refs = [call.tensor(k) for k in (0, 1)]
    held = [None if t is None else stretched.get(t) for t in refs]
    degrees = {h.degree for h in held if h is not None}
    if len(degrees) == 1 and None not in degrees:
        (degree,) = degrees
        assert degree is not None
        small = all(
            call.state(k).second_moment <= 1e-3 * made.second_moment
            for k in (0, 1)
            if held[k] is None
        )
        if small:
            return {out: whole_times(made, degree)}
    alpha = float(call.operation.kwargs.get("alpha", 1)) * (-1.0 if call.name == "sub" else 1.0)
    parts = [t for t in refs if t is not None]
    functions = all(call.states[t].base.key == made.base.key for t in parts)
    if functions and all(h is None or h.values is not None for h in held):
        values = np.zeros_like(made.values)
        for k, h in enumerate(held):
            if h is not None and h.values is not None:
                values = values + h.values * (1.0 if k == 0 else alpha)
        return {out: of_values(made, values)}
    if any(h is not None and h.statistic for h in held):
        # x less its own mean changes as x does; an eps under a root changes nothing.
        other = next((h for h in held if h is not None and not h.statistic), STATISTIC)
        if call.name == "sub" and not other.statistic:
            return {out: centred(other, call.state(0).mean)}
        return {out: other}
    square = sum(h.square * (1.0 if k == 0 else alpha**2) for k, h in enumerate(held) if h)
    cross = sum(h.cross * (1.0 if k == 0 else alpha**2) for k, h in enumerate(held) if h)
    return {out: Stretch(None, None, square, cross)}


def _product(call: Call, stretched: Mapping[int, Stretch]) -> dict[int, Stretch]:
    made, out = call.made(), call.operation.outputs[0]
    one, two = call.tensor(0), call.tensor(1)
    if one is not None and one == two and call.name == "mul":
        return _elementwise(call, stretched, [one])
    first = stretched.get(one) if one is not None else None
    second = stretched.get(two) if two is not None else None
    divided = call.name == "div"
    a, b = call.state(0), call.state(1)
    held = [s for s in (first, second) if s is not None]
    if any(s.statistic for s in held):
        if second is None or not second.statistic or first is None or first.statistic:
            first, second = second, first
        if first is None or second is None:
            return {out: STATISTIC}
        # The norm's own division: x and the statistic that was taken of it.
        turned = Call(call.graph, call.operation, call.states, call.parts)
        return {out: _turned(turned, first)}
    if all(s.degree is not None for s in held):
        signs = [1.0] * (first is not None) + [-1.0 if divided else 1.0] * (second is not None)
        degree = sum(s * (h.degree or 0.0) for s, h in zip(signs, held, strict=True))
        return {out: whole_times(made, degree)}
    if len(held) == 1 and (b if first is not None else a).is_constant and not (divided and second):
        factor = (b if first is not None else a).mean
        factor = (1 / factor if factor else 0.0) if divided else factor
        return {out: times(held[0], factor)}
    if divided:
        raise Ended
    if a.base.key == b.base.key == made.base.key:
        values = np.zeros_like(made.values)
        for h, other in ((first, b), (second, a)):
            if h is not None and h.values is not None:
                values = values + h.values * other.values
            elif h is not None:
                raise Ended
        return {out: of_values(made, values)}
    p, q = a.second_moment, b.second_moment
    s, t = (h or Stretch(0.0, None, 0.0, 0.0) for h in (first, second))
    square = max(s.square * q + p * t.square + 2 * s.cross * t.cross, 0.0)
    cross = s.cross * q + p * t.cross
    return {out: Stretch(None, None, square, cross)}


def _elementwise(
    call: Call, stretched: Mapping[int, Stretch], inputs: list[int]
) -> dict[int, Stretch]:
    if len(call.operation.outputs) != 1 or "softmax" in call.name or call.name == "copy":
        raise Ended
    made, out = call.made(), call.operation.outputs[0]
    if all(stretched[t].statistic for t in inputs):
        return {out: STATISTIC}
    ruled = all(call.states[t].base.key == made.base.key for t in inputs)
    if not ruled:
        # Run on samples, for its inputs were: the function is the same.
        found = pointwise_forward(call)
        if not isinstance(found, State):
            raise Ended
        made = found
        if any(call.states[t].base.key != made.base.key for t in inputs):
            raise Ended
    slopes = input_slopes(call, made)
    if not slopes:
        raise Ended
    values = np.zeros_like(made.values)
    aside = 0.0
    for tensor in inputs:
        held, state, slope = stretched[tensor], call.states[tensor], slopes.get(tensor)
        if slope is None:
            continue
        if held.values is not None:
            values = values + slope * held.values
            continue
        # What the change has of the tensor itself, and what is independent of it.
        q = state.second_moment
        along = held.cross / q if q > 0 else 0.0
        values = values + slope * along * state.values
        aside += max(held.square - along * held.cross, 0.0) * expectation(slope**2)
    change = of_values(made, values)
    if aside <= 1e-9 * change.square and ruled:
        return {out: change}
    return {out: Stretch(None, None, change.square + aside, change.cross)}
