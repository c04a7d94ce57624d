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
from fanin.signals import LayerSignal, Signals, TensorSignal

_SOURCE = -1
_ADDS = frozenset({"add", "add_"})
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
        return self.layer.weight if self.layer else self.signal.module


@dataclass(frozen=True)
class Stream:
    """One input's stream, from the first layer to the last hidden features.

    Args:
        points: in order of running. The last layer's own output is not among them: the scale of
            the model's output is its author's to choose.
        head: the last layer, if the stream ends in one.
        input: signal of the input, None for integers.
    """

    points: tuple[Point, ...]
    head: LayerSignal | None
    input: TensorSignal | None

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
        points = _points(graph, signals, chain, layers, norms)
        last = max((i for i, p in enumerate(points) if p.layer is not None), default=None)
        if last is None:
            continue
        stream = Stream(tuple(points[:last]), points[last].layer, signals.tensors.get(root))
        if stream.points and not any(stream.points == other.points for other in streams):
            streams.append(stream)
    return tuple(streams)


def _points(
    graph: Graph,
    signals: Signals,
    chain: Sequence[int],
    layers: Mapping[int, LayerSignal],
    norms: Mapping[int, float],
) -> list[Point]:
    last_norm = max((i for i, value in enumerate(chain) if value in norms), default=-1)
    points = []
    for index, value in enumerate(chain):
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
