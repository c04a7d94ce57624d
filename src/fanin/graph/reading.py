"""One pass over a graph: which tensors are weights, which are signals, and who uses what how.

Three kinds of tensors run through a model.  *Weights* are parameters and what is computed from
parameters alone on their way into an operation.  *Signals* are floating-point data: the inputs,
and whatever a weight or a signal was turned into.  The rest (indices, masks, rotary angles) is
*control*: it steers, but carries no variance that an initialisation could shape.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fanin.axes import Axes
from fanin.graph.graph import Graph, Operation, Ref, TensorKind
from fanin.graph.labels import Labels
from fanin.graph.use import Part, Use, axes_in_use


@dataclass(frozen=True)
class WeightValue:
    """A tensor made of parameters: the labels of each one in it, and what was added to it."""

    labels: dict[str, Labels]
    offset: float = 0.0


@dataclass(frozen=True)
class AttentionCore:
    """q, k and v meet: ids of the tensors that go in and of the one that comes out."""

    operation: Operation
    query: int
    key: int
    value: int
    result: int


@dataclass
class Reading:
    """What has been understood of a graph so far."""

    graph: Graph
    weights: dict[int, WeightValue] = field(default_factory=dict)
    signals: set[int] = field(default_factory=set)
    uses: list[Use] = field(default_factory=list)
    uses_at: dict[int, list[Use]] = field(default_factory=dict)
    attentions: list[AttentionCore] = field(default_factory=list)
    addends: dict[int, int] = field(default_factory=dict)
    """Operation index -> signal that a fused operation adds to its product (addmm's ``self``)."""
    normalised: dict[int, int] = field(default_factory=dict)
    """Operation index -> the signal that this operation, of a fused kind, normalises."""

    def start(self) -> None:
        """Parameters are weights; floating-point inputs are signals."""
        for tensor in self.graph.tensors.values():
            if tensor.kind is TensorKind.PARAMETER:
                self.weights[tensor.id] = WeightValue({tensor.name: Labels.whole(tensor.shape)})
        self.make_signals(self.graph.inputs)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.graph.tensors[tensor].shape

    def is_signal(self, tensor: int | None) -> bool:
        """Whether it carries data."""
        return tensor in self.signals

    def is_weight(self, tensor: int | None) -> bool:
        """Whether it is made of parameters and not yet turned into a signal."""
        return tensor in self.weights

    def signals_of(self, operation: Operation) -> list[int]:
        """The signals that an operation reads, each once."""
        return [t for t in dict.fromkeys(operation.inputs) if t in self.signals]

    def weights_of(self, operation: Operation) -> list[int]:
        """The weights that an operation reads, each once."""
        return [t for t in dict.fromkeys(operation.inputs) if t in self.weights]

    def make_signals(self, tensors: Iterable[int]) -> None:
        """Floating-point tensors become signals; indices and masks stay control."""
        for tensor in tensors:
            if self.graph.tensors[tensor].dtype.startswith(("float", "bfloat", "complex")):
                self.signals.add(tensor)

    def use(
        self,
        operation: Operation,
        tensor: int | None,
        family: str,
        part: Part,
        *,
        source: int | None = None,
        axes: Axes | None = None,
        parameter: str | None = None,
        output: int = 0,
    ) -> None:
        """Note that an operation uses the parameters in a weight tensor."""
        if tensor is None or tensor not in self.weights:
            return
        value = self.weights[tensor]
        for name, labels in value.labels.items():
            if parameter is not None and name != parameter:
                continue
            noted = Use(
                parameter=name,
                family=family,
                part=part,
                operation=operation,
                labels=labels,
                source=source,
                result=operation.outputs[output],
                operand=tensor,
                axes=axes,
                offset=value.offset,
            )
            self.uses.append(noted)
            self.uses_at.setdefault(operation.index, []).append(noted)

    def use_as_vector(
        self, operation: Operation, tensor: int | None, family: str, part: Part, source: int | None
    ) -> None:
        """Note the use of a bias, a scale or a shift: all its axes are outputs."""
        if tensor is None or tensor not in self.weights:
            return
        for name in self.weights[tensor].labels:
            shape = self.graph.parameters[name].shape
            axes = Axes(outputs=tuple(range(len(shape))))
            self.use(operation, tensor, family, part, source=source, axes=axes, parameter=name)

    def use_as_weight(
        self,
        operation: Operation,
        tensor: int,
        family: str,
        dimension_roles: str,
        source: int | None,
        *,
        groups: int = 1,
        stride: Sequence[int] = (),
        transposed: bool = False,
    ) -> None:
        """Note that a weight is summed over; its lesser companions are magnitudes."""
        value = self.weights[tensor]
        rank = max(_rank(self.graph.parameters[name].shape) for name in value.labels)
        for name, labels in value.labels.items():
            shape = self.graph.parameters[name].shape
            lesser = _rank(shape) < rank and not labels.summed and len(value.labels) > 1
            axes = axes_in_use(
                labels, shape, dimension_roles, groups=groups, stride=stride, transposed=transposed
            )
            if lesser:
                axes = Axes(outputs=tuple(range(len(shape))))
            self.use(
                operation,
                tensor,
                family,
                Part.MAGNITUDE if lesser else Part.WEIGHT,
                source=source,
                axes=axes,
                parameter=name,
            )

    def as_token(self, operation: Operation, tensor: int | None, family: str) -> bool:
        """A weight that stands where a signal stands is one from here on."""
        if tensor is None or tensor not in self.weights:
            return False
        self.use(operation, tensor, family, Part.TOKEN)
        return True


def refs(value: object) -> list[int]:
    """Ids of all tensors in an argument."""
    if isinstance(value, Ref):
        return [value.tensor]
    if isinstance(value, tuple):
        return [tensor for item in value for tensor in refs(item)]
    return []


def _rank(shape: Sequence[int]) -> int:
    return sum(1 for size in shape if size > 1)
