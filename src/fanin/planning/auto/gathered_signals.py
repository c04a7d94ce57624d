"""What gathering over the edges of a graph does to second moments, beside every weight.

A node of degree d that sums its messages has second moment d(1 + (d − 1)ρ)·q, one that averages
them (ρ + (1 − ρ)/d)·q, one that takes the largest E[max²] of d Gaussians. ρ is the cosine of two
neighbours' features: 0 for standardised data, then what each activation makes of it, and after
every gathering dρ/(1 + (d − 1)ρ).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from fanin.errors import FaninError
from fanin.graph.graph import Graph, Operation
from fanin.graph.vocabulary import MAKERS, MOVES, NONLINEAR_ELEMENTWISE, NORMS, SOFTMAXES, word
from fanin.planning.subject import Circumstances, once_per_model
from fanin.propagation import stability

_GATHERS = {"scatter_add", "index_add", "scatter_reduce"}
"""Sums over edges."""


@dataclass(frozen=True)
class _Signal:
    """Features of nodes or messages: what is known without their values.

    Args:
        power: second moment, 1 behind an activation or an input.
        alike: cosine between two nodes.
        sources: weights that it was made by since the last activation.
        gathered: number of messages a node, where they were gathered since then; else 0.
        averaged: a factor for each message makes the next sum a mean.
    """

    power: float = 1.0
    alike: float = 0.0
    sources: frozenset[str] = frozenset()
    gathered: float = 0.0
    averaged: bool = False


@dataclass(frozen=True)
class Change:
    """What happens to a second moment on a weight's way in and out.

    Args:
        before: factor on it between the last activation and the weight.
        after: factor on it between the weight and the next activation.
        degree: the most messages a node on the way; 0 for sums alone.
        ends: whether what the weight makes reaches the model's output.
    """

    before: float
    after: float
    degree: float
    ends: bool = False

    @property
    def why(self) -> str:
        """In words."""
        if self.degree:
            return f"{self.degree:.3g} messages a node"
        return "the sum that it reads or enters"


@once_per_model
def changes(circumstances: Circumstances) -> Mapping[str, Change]:
    """Weight -> what gathering does beside it; empty for models that gather no messages."""
    graph = circumstances.graph
    if graph is None or not any(_gathers(graph, op) for op in graph.operations):
        return {}
    return _Walk(graph, circumstances).run()


def _gathers(graph: Graph, operation: Operation) -> bool:
    """It sums rows of features into places: messages, or nodes of one graph."""
    messages = _messages(graph, operation)
    return messages is not None and _is_float(graph, messages) and len(_shape(graph, messages)) > 1


def _messages(graph: Graph, operation: Operation) -> int | None:
    if word(operation) not in _GATHERS or len(operation.inputs) < 3:
        return None
    # Target, index and messages are the tensors, in this order; the axis is a number.
    return operation.inputs[2]


def _shape(graph: Graph, tensor: int) -> tuple[int, ...]:
    return graph.tensors[tensor].shape


def _is_float(graph: Graph, tensor: int) -> bool:
    return "float" in graph.tensors[tensor].dtype


class _Walk:
    """Carries signals through the operations in order of running."""

    def __init__(self, graph: Graph, circumstances: Circumstances) -> None:
        self.graph = graph
        self.weights = {s.name for s in circumstances if s.is_layer_weight}
        self.residual = circumstances.residual_branches > 0
        self.signals: dict[int, _Signal] = {
            t: _Signal() for t in graph.inputs if _is_float(graph, t)
        }
        self.columns: set[int] = set()
        """Tensors of one number a row: factors of messages, numbers of neighbours."""
        self.before: dict[str, _Signal] = {}
        self.after: dict[str, _Signal] = {}
        self.ends: frozenset[str] = frozenset()

    def run(self) -> Mapping[str, Change]:
        """Weight -> what happens beside it."""
        for operation in self.graph.operations:
            if operation.outputs and not self.graph.tensors[operation.outputs[0]].of_parameters:
                self._note_column(operation)
                made = self._made(operation)
                if made is not None:
                    self.signals[operation.outputs[0]] = made
        for tensor in self.graph.outputs:
            signal = self.signals.get(tensor)
            self._arrived(signal)
            self.ends |= frozenset() if signal is None else signal.sources
        return {name: self._change(name, read) for name, read in self.before.items()}

    def _change(self, name: str, read: _Signal) -> Change:
        nothing = _Signal()
        # A weight that reads another's output finds it scaled by that one's own correction.
        makers = [self.after[source].power for source in read.sources if source in self.after]
        before = read.power / max(makers, default=1.0)
        after = self.after.get(name, nothing)
        return Change(before, after.power, max(read.gathered, after.gathered), name in self.ends)

    def _note_column(self, operation: Operation) -> None:
        out = operation.outputs[0]
        shape = _shape(self.graph, out)
        widened = word(operation) in MOVES and self.columns.issuperset(operation.inputs[:1])
        if len(shape) < 2 or shape[-1] == 1 or widened:
            self.columns.add(out)

    def _made(self, operation: Operation) -> _Signal | None:
        known = [self.signals[t] for t in operation.inputs if t in self.signals]
        weight = self._weight_of(operation)
        if weight and known:
            return self._through_weight(weight, known)
        name = word(operation)
        if not known or name in MAKERS:
            return None
        first = known[0]
        if _gathers(self.graph, operation):
            return self._gathered(operation)
        if name in MOVES:
            return first
        if name in ("add", "sub", "cat", "stack"):
            return self._added(name, known)
        if name in ("mul", "div"):
            return self._multiplied(operation, first)
        self._arrived(*known)
        if name in SOFTMAXES or name in NORMS or name not in NONLINEAR_ELEMENTWISE:
            return _Signal(alike=first.alike)
        return _Signal(alike=_behind(name, first.alike))

    def _weight_of(self, operation: Operation) -> tuple[str, ...]:
        names = [n for t in operation.inputs for n in self._names(t)]
        return tuple(n for n in names if n in self.weights)

    def _names(self, tensor: int) -> tuple[str, ...]:
        info = self.graph.tensors[tensor]
        return (info.name, *info.of_parameters) if info.name else info.of_parameters

    def _through_weight(self, names: tuple[str, ...], known: list[_Signal]) -> _Signal:
        self._arrived(*known)
        read = max(known, key=lambda s: s.power)
        for name in names:
            self.before.setdefault(name, read)
        return _Signal(alike=read.alike, sources=frozenset(names))

    def _gathered(self, operation: Operation) -> _Signal | None:
        tensor = operation.inputs[2]
        signal = self.signals.get(tensor)
        if signal is None:
            return None
        out = _shape(self.graph, operation.outputs[0])
        degree = _shape(self.graph, tensor)[0] / max(out[0], 1)
        if len(_shape(self.graph, tensor)) != len(out) or degree <= 0:
            return signal
        reduce = next((a for a in operation.args if isinstance(a, str)), "sum")
        if reduce in ("amax", "amin"):
            return _largest(signal, degree)
        if reduce not in ("sum", "mean"):
            self._arrived(signal)
            return _Signal(alike=signal.alike)
        own = 1 + (degree - 1) * signal.alike
        mean = reduce == "mean" or signal.averaged
        return replace(
            signal,
            power=signal.power * own * (1 / degree if mean else degree),
            alike=min(max(degree * signal.alike / own, 0.0), 1.0),
            gathered=max(degree, signal.gathered),
            averaged=False,
        )

    def _added(self, name: str, known: list[_Signal]) -> _Signal:
        share = 1 / len(known) if name in ("cat", "stack") else 1.0
        weight = sum(s.power for s in known) or 1.0
        power = share * weight
        if len(known) == 2 and name == "add" and not any(s.sources for s in known):
            # A node and its neighbours: as alike as two neighbours are.
            one, two = known
            power += 2 * min(one.alike, two.alike) * (one.power * two.power) ** 0.5
        elif self.residual and share == 1 and len(known) > 1:
            power = max(s.power for s in known)  # the stream's growth is the writers' affair
        return _Signal(
            power,
            sum(s.alike * s.power for s in known) / weight,
            frozenset().union(*(s.sources for s in known)),
            max(s.gathered for s in known),
        )

    def _multiplied(self, operation: Operation, first: _Signal) -> _Signal:
        factors = [t for t in operation.inputs if t in self.columns]
        features = [
            self.signals[t] for t in operation.inputs if t in self.signals and t not in self.columns
        ]
        if len(features) != 1:
            if len(features) > 1:  # a gate: what comes out is neither's
                self._arrived(*features)
                return _Signal(alike=first.alike)
            return first
        signal = features[0]
        if not factors:
            return signal
        if word(operation) == "div" and signal.gathered and not signal.averaged:
            # A sum divided by a number of its own for every node: the mean.
            return replace(signal, power=signal.power / signal.gathered**2)
        return replace(signal, averaged=True)

    def _arrived(self, *signals: _Signal | None) -> None:
        for signal in signals:
            if signal is not None:
                for name in signal.sources:
                    # Attention's scores read a weight too: what the messages meet counts.
                    if name not in self.after or self.after[name].gathered < signal.gathered:
                        self.after[name] = signal


def _largest(signal: _Signal, degree: float) -> _Signal:
    """The largest of a node's messages, taken as Gaussian: E[max²] and E[max] over a grid."""
    x = torch.linspace(-9, 9, 3601, dtype=torch.float64)
    share = (torch.special.ndtr(x) ** max(degree, 1.0)).diff()
    middle = (x[1:] + x[:-1]) / 2
    mean, square = float((share * middle).sum()), float((share * middle**2).sum())
    alike = signal.alike
    common, own = alike + (1 - alike) * mean**2, alike + (1 - alike) * square
    return replace(
        signal,
        power=signal.power * own,
        alike=min(common / own, 1.0),
        gathered=max(degree, signal.gathered),
    )


def _behind(activation: str, alike: float) -> float:
    """The cosine of two nodes behind an activation; as before it where none can be computed."""
    try:
        found = stability.correlation_map(activation, alike)
    except FaninError:
        return alike
    return min(max(found, 0.0), 1.0)
