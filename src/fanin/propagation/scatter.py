"""How far the correlation of two places strays from its mean, where features are few.

Two places of a map correlate by chance: over m independent features the mean square of that is
1/m, and every narrow layer adds its own. What a random matrix makes of such places is a channel
whose power varies by tr K²/(tr K)², K the correlations as they fell out: behind 24 features, 32
places are no more than 14 independent numbers to the norm that divides by it.
"""

from collections.abc import Sequence
from math import prod

from fanin.graph.graph import Graph
from fanin.propagation.algebra import centred_pairs
from fanin.propagation.call import Call, functional_name
from fanin.propagation.quadrature import NODES, expectation
from fanin.propagation.state import State
from fanin.propagation.taps import evened_out

Scatter = tuple[float, float]
"""Variance of the correlation of two places, means taken off: of those that one channel is made
from, and as the channels of the tensor itself show it."""

_PRODUCTS = ("mm", "addmm", "convolution")
_AVERAGES = ("avg_pool1d", "avg_pool2d", "avg_pool3d", "mean")
_NONE = (0.0, 0.0)


def scatter(call: Call, tensor: int) -> Scatter:
    """How far the correlations of a tensor's places stray.

    Args:
        call: an operation that reads the tensor; everything before it has its state.
        tensor: its id.
    """
    parts, operations = call.parts, call.graph.operations
    while parts.scattered < len(operations):
        operation = operations[parts.scattered]
        if operation.index >= call.operation.index:
            break
        for out in operation.outputs[:1]:
            if out in call.states:
                inner = Call(call.graph, operation, call.states, parts)
                parts.scatters[out] = _scatter(inner)
        parts.scattered += 1
    return _known(call, tensor)


def _known(call: Call, tensor: int) -> Scatter:
    found = call.parts.scatters.get(tensor)
    if found is not None:
        return found
    if _of_weights(call.graph, tensor):
        return _NONE
    return _fresh(call.states[tensor])


def _of_weights(graph: Graph, tensor: int) -> bool:
    info = graph.tensors[tensor]
    return info.kind in ("parameter", "buffer") or bool(info.of_parameters)


def _fresh(state: State) -> Scatter:
    """Features of which nothing is known but their number."""
    shape = state.shape
    if len(shape) < 2:
        return _NONE
    return 1 / shape[1 if len(shape) > 3 else -1], 1 / shape[1 if len(shape) > 3 else -1]


def _scatter(call: Call) -> Scatter:
    made, name = call.made(), functional_name(call.operation.name)
    if _of_weights(call.graph, call.operation.outputs[0]):
        return _NONE
    if name in _PRODUCTS:
        return _of_product(call, name)
    inputs = _varying(call)
    if not inputs:
        return _fresh(made)
    parts = [_known(call, t) for t in inputs]
    states = [call.states[t] for t in inputs]
    if len(inputs) == 1 or name not in ("add", "sub", "cat"):
        return _of_one(call, name, states[0], parts[0])
    sizes = [1.0] * len(states)
    if name == "cat":
        sizes = [prod(s.shape) / prod(made.shape) for s in states]
    powers = [n * own_power(s) for n, s in zip(sizes, states, strict=True)]
    total = sum(powers)
    if total <= 0:
        return _NONE
    # A branch keeps the correlations of the stream that it reads; what is fresh in each is its own.
    shares = [p / total for p in powers]
    common = sum(w * p[0] ** 0.5 for w, p in zip(shares, parts, strict=True)) ** 2
    fresh = sum(w**2 * max(p[1] - p[0], 0.0) for w, p in zip(shares, parts, strict=True))
    return common, common + fresh


def _varying(call: Call) -> list[int]:
    """Inputs that are no weights, the widest first."""
    states = call.states
    found = [t for t in call.operation.inputs if not _of_weights(call.graph, t)
             and t in states and call.is_float(t)]  # fmt: skip
    return sorted(dict.fromkeys(found), key=lambda t: -prod(states[t].shape))


def _of_product(call: Call, name: str) -> Scatter:
    """A fresh matrix to m features adds 1/m; what a kernel's taps read is averaged."""
    first = 1 if name == "addmm" else 0
    data, weight = call.tensor(first), call.tensor(first + 1)
    if data is None or weight is None or _of_weights(call.graph, data):
        return _fresh(call.made())
    own = _known(call, data)[1]
    features = call.states[weight].shape[-1]
    if name == "convolution":
        features = call.shape()[1 if len(call.shape()) == len(call.state(1).shape) else 0]
        even = 1.0 if bool(call.raw(6)) else evened_out(call)
        if int(call.raw(8)) > 1 and not bool(call.raw(6)):
            # A norm before has levelled each channel by itself: what its places share is gone.
            levelled = normalised_by_channel(call)
            return 0.0 if levelled else _known(call, data)[0], own * even + 1 / features
        own *= even
    return own, own + 1 / max(features, 1)


def _of_one(call: Call, name: str, given: State, part: Scatter) -> Scatter:
    made = call.made()
    before, after = own_power(given), own_power(made)
    if before <= 0 or after <= 0:
        return _NONE
    if name in _AVERAGES:
        count = max(prod(given.shape) / max(prod(made.shape), 1), 1.0)
        factor = (before / (after * count)) ** 2
        return min(part[0] * factor, 1.0), min(part[1] * factor, 1.0)
    if made.base.key == given.base.key and made.base.std > 0:
        # φ(z) keeps of a correlation what its straight part keeps; what it bends is fresh.
        slope = expectation(given.values * NODES)
        if slope == 0.0:
            return part
        straight = (expectation(made.values * NODES) / slope) ** 2 * before / after
        kept = min(straight, 1.0) ** 2
        fresh = max(part[1] - part[0], 0.0)
        return kept * part[0], kept * part[0] + fresh
    return part


def own_power(state: State) -> float:
    """Of a tensor's numbers, what the others of their channel do not share."""
    rank = len(state.axes)
    channel = 1 if rank > 3 else rank - 1
    dims = [d for d in range(rank) if d != channel] if rank != 3 else [0]
    return max(float(centred_pairs(state.pairs, state.axes, dims).flat[0]), 0.0)


def normalised_by_channel(call: Call) -> bool:
    """Whether the input is an elementwise function of what a batch norm made, padded or not."""
    tensor = call.tensor(0)
    for _ in range(6):
        maker = None if tensor is None else call.graph.producer.get(tensor)
        if maker is None or not maker.inputs:
            return False
        if "batch_norm" in maker.name:
            return True
        first = maker.inputs[0]
        padded = maker.name == "constant_pad_nd"
        if not padded and call.states[maker.outputs[0]].base.key != call.states[first].base.key:
            return False
        tensor = first
    return False


def strayed(call: Call, view: State, dims: Sequence[int], channels: int) -> float:
    """What straying adds to tr K²/(tr K)² of the numbers that a norm averages over.

    Args:
        call: the norm.
        view: its input under the axes that the statistics run over.
        dims: those axes.
        channels: how many channels they hold; only places of one channel stray together.
    """
    source = call.tensor(0)
    places = prod(view.shape[d] for d in dims) / max(channels, 1)
    if source is None or places <= 1:
        return 0.0
    return min(scatter(call, source)[0], 1.0) * (1 - 1 / places) / channels
