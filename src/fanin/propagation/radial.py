"""The gradient along the tensor itself: Σ g·y, which the statistics of a norm receive.

A norm written out by hand divides x by a number r that it took from x.  The gradient of r sums
g·y over the features, and g is no stranger to y: by the chain rule the sum is the derivative of
the loss when y is stretched.  Stretching passes through a fresh matrix as it is (Euler), becomes
φ′(h)·h in an activation, adds up over the factors of a gate, dies in another norm.  It is followed
forward to where gradients come from fresh weights and are strangers; there squares add.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import Call, CallParts, functional_name
from fanin.propagation.families.pointwise import input_slopes
from fanin.propagation.quadrature import Array, expectation
from fanin.propagation.state import State

FURTHEST = 200
"""Operations looked at before the rest is taken for unrelated."""

_LINEAR = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "squeeze",
    "unsqueeze", "flatten", "unflatten", "clone", "contiguous", "_to_copy", "alias", "expand",
    "slice", "select", "split", "split_with_sizes", "unsafe_split", "chunk", "neg", "mean", "sum",
    "unbind", "cat", "index", "index_select",
}  # fmt: skip
_PRODUCTS = {"mm": 0, "addmm": 1, "_grouped_mm": 0}
_STATISTICS = ("native_layer_norm", "native_group_norm", "_fused_rms_norm", "rms_norm")
_WRITTEN_OUT = ({"pow", "mul"}, {"pow", "div"}, {"mean", "sub"})
"""What reads the input of a norm that is written out."""


@dataclass(frozen=True)
class _Stretch:
    """What a tensor changes by when the site is stretched by the unit.

    Args:
        degree: k where the change is k times the tensor itself; None where it is not.
        values: the change on the nodes of the tensor's base; None where it has none.
        square: its second moment.
        cross: its mean product with the tensor.
    """

    degree: float | None
    values: Array | None
    square: float
    cross: float


def _whole(state: State, degree: float) -> _Stretch:
    q = state.second_moment
    return _Stretch(degree, degree * state.values, degree**2 * q, degree * q)


def _of_values(state: State, values: Array) -> _Stretch:
    q = state.second_moment
    power = expectation(state.values**2)
    # Values are the function of one number; profiles and clipped tails change the moments a bit.
    scale = q / power if power > 0 else 1.0
    degree = expectation(values * state.values) / power if power > 0 else 0.0
    if expectation((values - degree * state.values) ** 2) <= 1e-9 * max(power, 1e-300):
        return _whole(state, degree)
    return _Stretch(
        None, values, scale * expectation(values**2), scale * expectation(values * state.values)
    )


def radial_power(
    graph: Graph,
    states: Mapping[int, State],
    parts: CallParts,
    site: int,
    power_of: Callable[[int], float | None],
    seed_of: Callable[[int], float],
) -> float | None:
    """E[(Σ g·y)²] summed over the whole tensor ``site``; None where it cannot be said.

    Args:
        graph: what ran.
        states: of every tensor.
        parts: what forward rules left.
        site: y.
        power_of: second moment of the gradient of a tensor; None where there is none.
        seed_of: the part of it with which the backward pass starts.
    """
    stretched = {site: _whole(states[site], 1.0)}
    total, looked = 0.0, 0
    for operation in _after(graph, site):
        touched = [t for t in dict.fromkeys(operation.inputs) if t in stretched]
        if not touched:
            continue
        looked += 1
        if looked > FURTHEST:
            return None
        call = Call(graph, operation, states, parts)
        found = _through(call, stretched)
        if found is not None:
            stretched.update(found)
            continue
        for tensor in touched:
            gradient, stretch = power_of(tensor), stretched[tensor]
            readers = graph.consumers.get(tensor, ())
            if gradient is None or stretch.square == 0.0:
                continue
            if len(readers) > 1 and any(r is not operation for r in readers):
                # Its gradient is that of several readers: what this one sends is not known.
                if not all(_through(Call(graph, r, states, parts), stretched) is None
                           for r in readers):  # fmt: skip
                    return None
                gradient /= len(readers)
            square = stretch.square
            if call.name in _PRODUCTS and _meets_a_norm(call):
                # Behind the matrix a norm takes off what only makes its input longer.
                q = states[tensor].second_moment
                square -= min(stretch.cross**2 / q if q > 0 else 0.0, square)
            factor = _beside_attention(call, tensor)
            total += prod(states[tensor].shape) * gradient * square * factor
    # What the loss reads of a tensor itself ends the trail too.
    for tensor, stretch in stretched.items():
        total += prod(states[tensor].shape) * seed_of(tensor) * stretch.square
    return total


def _after(graph: Graph, site: int) -> Iterator[Operation]:
    maker = graph.producer.get(site)
    start = -1 if maker is None else maker.index
    return (operation for operation in graph.operations if operation.index > start)


def _through(call: Call, stretched: Mapping[int, _Stretch]) -> dict[int, _Stretch] | None:
    """How the outputs are stretched; None where the trail ends at this operation's inputs."""
    name, operation = call.name, call.operation
    inputs = [t for t in dict.fromkeys(operation.inputs) if t in stretched]
    if name in _STATISTICS:
        return {out: _Stretch(0.0, None, 0.0, 0.0) for out in operation.outputs}
    degrees = {stretched[t].degree for t in inputs}
    if name in _LINEAR or name in _PRODUCTS:
        return _linear(call, stretched, degrees)
    if name in ("add", "sub") and len(operation.outputs) == 1:
        return _sum(call, stretched, degrees)
    if name in ("mul", "div") and len(operation.outputs) == 1:
        return _product(call, stretched)
    return _elementwise(call, stretched, inputs)


def _linear(
    call: Call, stretched: Mapping[int, _Stretch], degrees: set[float | None]
) -> dict[int, _Stretch] | None:
    operation = call.operation
    if call.name in _PRODUCTS:
        position = _PRODUCTS[call.name]
        if call.tensor(position) not in stretched or call.tensor(position + 1) in stretched:
            return None
        bias = call.optional(0) if call.name == "addmm" else None
        if bias is not None and bias.second_moment > 0:
            return None
    others = [t for t in operation.inputs if t not in stretched]
    if call.name == "cat" and others:
        return None
    if len(degrees) != 1 or None in degrees:
        (only,) = operation.inputs if len(set(operation.inputs)) == 1 else (None,)
        if only is None or call.name in ("mean", "sum"):
            return None
        same = stretched[only]
        return dict.fromkeys(operation.outputs, same)
    (degree,) = degrees
    assert degree is not None
    return {out: _whole(call.states[out], degree) for out in operation.outputs}


def _sum(
    call: Call, stretched: Mapping[int, _Stretch], degrees: set[float | None]
) -> dict[int, _Stretch] | None:
    made = call.made()
    refs = [call.tensor(k) for k in (0, 1)]
    if len(degrees) == 1 and None not in degrees:
        (degree,) = degrees
        assert degree is not None
        rest = [k for k, t in enumerate(refs) if t not in stretched]
        small = all(call.state(k).second_moment <= 1e-3 * made.second_moment for k in rest)
        if not rest or small:
            return {call.operation.outputs[0]: _whole(made, degree)}
    parts = [t for t in refs if t is not None]
    if any(call.states[t].base.key != made.base.key for t in parts):
        return None
    sign = -1.0 if call.name == "sub" else 1.0
    alpha = float(call.operation.kwargs.get("alpha", 1))
    values = np.zeros_like(made.values)
    for k, tensor in enumerate(refs):
        held = stretched.get(tensor) if tensor is not None else None
        if held is None:
            continue
        if held.values is None:
            return None
        values = values + held.values * (1.0 if k == 0 else sign * alpha)
    return {call.operation.outputs[0]: _of_values(made, values)}


def _product(call: Call, stretched: Mapping[int, _Stretch]) -> dict[int, _Stretch] | None:
    made, out = call.made(), call.operation.outputs[0]
    one, two = call.tensor(0), call.tensor(1)
    first = stretched.get(one) if one is not None else None
    second = stretched.get(two) if two is not None else None
    divided = call.name == "div"
    if divided and second is not None and second.degree is None:
        return None
    a, b = call.state(0), call.state(1)
    known = [s.degree for s in (first, second) if s is not None]
    if all(degree is not None for degree in known):
        signs = [1.0] * (first is not None) + [-1.0 if divided else 1.0] * (second is not None)
        degree = sum(s * d for s, d in zip(signs, known, strict=True) if d is not None)
        return {out: _whole(made, degree)}
    if divided and (second is not None or not b.is_constant):
        return None
    if a.base.key == b.base.key == made.base.key:
        values = np.zeros_like(made.values)
        for held, other in ((first, b), (second, a)):
            if held is not None and held.values is not None:
                values = values + held.values * other.values
        return {out: _of_values(made, values)}
    p, q = a.second_moment, b.second_moment
    if divided:
        p, q = a.second_moment, 1 / b.second_moment
    s, t = (held or _Stretch(0.0, None, 0.0, 0.0) for held in (first, second))
    square = s.square * q + p * t.square + 2 * s.cross * t.cross
    cross = s.cross * q + p * t.cross
    return {out: _Stretch(None, None, square, cross)}


def _elementwise(
    call: Call, stretched: Mapping[int, _Stretch], inputs: list[int]
) -> dict[int, _Stretch] | None:
    if len(call.operation.outputs) != 1 or "softmax" in call.name or call.name == "copy":
        return None
    made = call.made()
    if any(stretched[t].values is None or call.states[t].base.key != made.base.key for t in inputs):
        return None
    slopes = input_slopes(call)
    if not slopes:
        return None
    values = np.zeros_like(made.values)
    for tensor in inputs:
        held = stretched[tensor].values
        assert held is not None
        values = values + slopes.get(tensor, 0.0) * held
    return {call.operation.outputs[0]: _of_values(made, values)}


def _meets_a_norm(call: Call) -> bool:
    """Whether what the operation makes is read by a norm alone, written out or not."""
    tensor = call.operation.outputs[0]
    for _ in range(8):
        readers = call.graph.consumers.get(tensor, ())
        names = {functional_name(r.name) for r in readers}
        if len(readers) == 1 and readers[0].outputs and names <= _LINEAR - {"mean", "sum", "cat"}:
            tensor = readers[0].outputs[0]
            continue
        return bool(names) and (names <= set(_STATISTICS) or names in _WRITTEN_OUT)
    return False


def _beside_attention(call: Call, tensor: int) -> float:
    """What queries and keys receive along themselves, over what strangers would.

    A query's sum is Σ a (g − ḡ) s over its logits s, and shares a grow with s.
    """
    if call.name.startswith("_scaled_dot_product"):
        kept = call.parts.kept(call.operation, "attention")
        if kept is None or tensor not in (call.tensor(0), call.tensor(1)):
            return 1.0
        shares = kept[4]
        by_query = tensor == call.tensor(0)
    elif call.name in ("bmm", "baddbmm"):
        softmax = _softmax_behind(call)
        if softmax is None:
            return 1.0
        shares = call.parts.kept(softmax, "shares")
        first = call.tensor(0 if call.name == "bmm" else 1)
        by_query = tensor == first
    else:
        return 1.0
    row, column = along_logits(max(round(shares.keys), 1), round(shares.std, 3))
    return row if by_query else column


def _softmax_behind(call: Call) -> Operation | None:
    tensor = call.operation.outputs[0]
    for _ in range(8):
        readers = call.graph.consumers.get(tensor, ())
        if not readers or not readers[0].outputs:
            return None
        name = functional_name(readers[0].name)
        if "softmax" in name:
            return readers[0]
        if name not in _LINEAR | {"mul", "div", "add", "sub", "masked_fill", "where"}:
            return None
        if name in ("mul", "div", "add", "sub") and not any(
            isinstance(a, Ref) and a.tensor == tensor for a in readers[0].args
        ):
            return None
        tensor = readers[0].outputs[0]
    return None


@lru_cache(maxsize=512)
def along_logits(keys: int, std: float) -> tuple[float, float]:
    """E[(Σ g s)²] along a row of logits and along a column, over that of independent g and s.

    For ``keys`` logits N(0, std²) and gradients of the shares that are independent.
    """
    if keys <= 1 or std == 0.0:
        return 1.0, 1.0
    rows = max((1 << 16) // keys, 16)
    z = np.random.default_rng(keys).standard_normal((rows, keys)) * std
    shares = np.exp(z - z.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    centred = z - (shares * z).sum(axis=1, keepdims=True)
    own = shares**2 * (1 - 2 * shares + (shares**2).sum(axis=1, keepdims=True))
    strangers = float(own.mean()) * std**2
    return float((shares**2 * centred**2).mean()) / strangers, float(
        (own * z**2).mean()
    ) / strangers
