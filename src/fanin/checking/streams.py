"""The main streams of a graph: what every path from an input to the output has to pass.

The RMS of a tensor says little by itself. Inside a residual branch it may be anything, since the
stream carries the signal past it; before a norm it may be anything, since the norm forgets it.
What counts are the tensors that all of the signal passes: the dominators of the output. A plain
net's are all its layers, a residual net's the stream behind each addition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fanin.checking.norms import norm_outputs
from fanin.graph.graph import Graph
from fanin.graph.weight_uses import uses_weight
from fanin.signals import LayerSignal, Signals, TensorSignal

_SOURCE = -1
_ADDS = frozenset({"add", "add_"})
_VIEWS = frozenset({"view", "_unsafe_view", "transpose", "permute", "unsqueeze", "_to_copy"})
RECURRENT = frozenset({"lstm", "gru", "rnn"})


@dataclass(frozen=True)
class Point:
    """A tensor of a stream at which signals are compared: a layer's output, a sum, a norm's output.

    Args:
        signal: of the tensor.
        layer: the layer that made it; None for sums and norms.
        norm_eps: ε of the normalisation that made it; None for other tensors.
        forgotten: a normalisation further down the stream forgets its scale.
    """

    signal: TensorSignal
    layer: LayerSignal | None
    norm_eps: float | None
    forgotten: bool

    @property
    def is_norm(self) -> bool:
        """A normalisation made it."""
        return self.norm_eps is not None

    @property
    def where(self) -> str:
        """Path for a finding: the layer's weight, else the module that made the tensor."""
        if self.layer is not None:
            return self.layer.weight
        return self.signal.module or f"{self.signal.operation} in forward"


@dataclass(frozen=True)
class Stream:
    """One input's stream, from the first layer to the last hidden features.

    Args:
        points: in order of running. The last layer's own output is not among them: the scale of
            the model's output is its author's to choose.
        head: name of the last layer's weight, a tied embedding's among them; empty for none.
        input: signal of the input, None for integers.
        read_raw: the first layer reads the input itself, only its shape changed.
    """

    points: tuple[Point, ...]
    head: str
    input: TensorSignal | None
    read_raw: bool = False

    @cached_property
    def layers(self) -> tuple[LayerSignal, ...]:
        """The layers on the stream, the head left out."""
        return tuple(p.layer for p in self.points if p.layer is not None)

    @cached_property
    def tail(self) -> tuple[Point, ...]:
        """The points whose scale reaches the output: from the last norm or recurrent layer on."""
        start = 0
        for index, point in enumerate(self.points):
            recurrent = point.layer is not None and point.layer.kind in RECURRENT
            if point.is_norm or point.forgotten or recurrent:
                start = index if point.is_norm or recurrent else index + 1
        return self.points[start:]


def read_streams(graph: Graph, signals: Signals) -> tuple[Stream, ...]:
    """One stream for every input of the model that reaches its output through a layer."""
    norms = norm_outputs(graph)
    layers = {row.output: row for row in signals.layers}
    streams: list[Stream] = []
    for root in graph.inputs:
        chain = _dominators(graph, signals, root)
        # The last layer may be a tied embedding, whose row in the table stands at its first use.
        last = max((i for i, value in enumerate(chain) if _makes_layer(graph, value)), default=0)
        first = _behind_learned_tokens(graph, chain[:last])
        points = _points(graph, signals, chain, range(first, last), layers, norms)
        head = head_weight(graph, chain[last]) if chain else ""
        stream = Stream(tuple(points), head, signals.tensors.get(root), _read_raw(graph, root))
        if stream.points and not any(stream.points == other.points for other in streams):
            streams.append(stream)
    return tuple(streams)


def _read_raw(graph: Graph, root: int) -> bool:
    """Whether a layer reads the input itself, views aside."""
    return any(
        uses_weight(graph, reader)
        or (reader.name in _VIEWS and bool(reader.outputs) and _read_raw(graph, reader.outputs[0]))
        for reader in graph.consumers.get(root, ())
    )


def _behind_learned_tokens(graph: Graph, chain: Sequence[int]) -> int:
    """Where learned tokens have joined the data.

    A classifier that reads a learned token sees the data only through attention, whose branches
    may start as small as their author likes (LayerScale at 1e-6). Ahead of the concatenation
    gradients are those of that token's attention, behind it those of the stream.
    """
    first = 0
    for index, value in enumerate(chain):
        maker = graph.producer.get(value)
        if maker is None or maker.name != "cat":
            continue
        if any(graph.tensors[v].of_parameters for v in maker.inputs):
            first = index
    return first


def head_weight(graph: Graph, value: int) -> str:
    """Name of the weight that the operation behind a value multiplies by; empty for none."""
    maker = graph.producer.get(value)
    if maker is None or not uses_weight(graph, maker):
        return ""
    names = [name for v in maker.inputs for name in graph.tensors[v].of_parameters]
    return next((n for n in names if len(graph.parameters[n].shape) > 1), "")


def _makes_layer(graph: Graph, value: int) -> bool:
    maker = graph.producer.get(value)
    return maker is not None and uses_weight(graph, maker)


def _points(
    graph: Graph,
    signals: Signals,
    chain: Sequence[int],
    within: range,
    layers: Mapping[int, LayerSignal],
    norms: Mapping[int, float],
) -> list[Point]:
    last_norm = max((i for i, value in enumerate(chain) if value in norms), default=-1)
    points = []
    for index in within:
        value = chain[index]
        signal, layer = signals.tensors.get(value), layers.get(value)
        if signal is None:
            continue
        maker = graph.producer.get(value)
        is_sum = maker is not None and maker.name in _ADDS and layer is None
        if layer is not None or is_sum or value in norms:
            points.append(Point(signal, layer, norms.get(value), index < last_norm))
    return points


def _dominators(graph: Graph, signals: Signals, root: int) -> list[int]:
    """The tensors that every path from ``root`` to the output passes, in order of running.

    Immediate dominators of a directed acyclic graph, in one sweep in order of running (Cooper,
    Harvey and Kennedy 2001): a value's is the nearest common ancestor of those it is made from.
    Paths are those that gradients take back: masks, positions and random numbers are no signal.
    """
    has_gradients = any(s.gradient_rms is not None for s in signals.tensors.values())
    root_is_float = root in signals.tensors
    reached = {root}
    ancestor: dict[int, int] = {root: _SOURCE}
    depth: dict[int, int] = {_SOURCE: 0, root: 1}

    def flows(value: int) -> bool:
        signal = signals.tensors.get(value)
        if signal is None or value not in reached:
            return False
        if signal.gradient_rms is not None or not has_gradients:
            return True
        # Ahead of the first weight nothing has a gradient; the data flow there all the same.
        return root_is_float and value in ancestor

    for operation in graph.operations:
        if not any(value in reached for value in operation.inputs):
            continue
        reached.update(operation.outputs)
        parents = [value for value in operation.inputs if value in ancestor and flows(value)]
        common = _common_ancestor(parents, ancestor, depth) if parents else _SOURCE
        for output in operation.outputs:
            signal = signals.tensors.get(output)
            if signal is None:
                continue
            carries = signal.gradient_rms is not None or not has_gradients
            if carries or (root_is_float and parents):
                ancestor[output] = common
                depth[output] = depth[common] + 1
    ends = [value for value in graph.outputs if value in ancestor and flows(value)]
    return _path(ends[0], ancestor) if ends else []


def _common_ancestor(
    values: Sequence[int], ancestor: Mapping[int, int], depth: Mapping[int, int]
) -> int:
    found = values[0]
    for other in values[1:]:
        one = other
        while found != one:
            if depth[found] >= depth[one]:
                found = ancestor[found]
            else:
                one = ancestor[one]
    return found


def _path(end: int, ancestor: Mapping[int, int]) -> list[int]:
    path = []
    while end != _SOURCE:
        path.append(end)
        end = ancestor[end]
    return path[::-1]
