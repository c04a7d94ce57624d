"""Towers compared by a cosine: an image's projection and a text's, each divided by its norm."""

from dataclasses import dataclass

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.patterns.ending import ends_in_output
from fanin.graph.role import Compared
from fanin.graph.use import Part, Use
from fanin.graph.uses.contraction import factors
from fanin.graph.vocabulary import word

_DIVISIONS = ("div", "true_divide", "mul")
_FLAT_AT_ZERO = frozenset(
    ("abs", "clamp", "clamp_min", "cosh", "cos", "hardshrink", "hardtanh", "pow", "relu",
     "softshrink", "square", "threshold")
)  # fmt: skip
"""Functions of a cosine by which one of exactly 0 gets no gradient."""


@dataclass(frozen=True)
class _Side:
    """One factor of a cosine: the projection that made it."""

    parameter: str
    outputs: int
    first: int


def find_compared(flow: Flow) -> dict[str, Compared]:
    """Parameter -> which of the towers it ends, where their cosines are the model's output.

    Two sides that one matrix projects are no two towers: what it draws for one it draws for both.
    """
    groups: list[dict[str, _Side]] = []
    products: dict[str, Operation] = {}
    for operation in flow.graph.operations:
        sides = _sides(flow, operation)
        if sides is None or sides[0].parameter == sides[1].parameter:
            continue
        group = {side.parameter: side for side in sides}
        products |= dict.fromkeys(group, operation)
        apart = [g for g in groups if not g.keys() & group.keys()]
        for known in groups:
            if known.keys() & group.keys():
                group |= known
        groups = [*apart, group]
    found: dict[str, Compared] = {}
    for group in groups:
        if len({side.outputs for side in group.values()}) > 1:
            continue
        ordered = sorted(group.values(), key=lambda side: (side.first, side.parameter))
        if len(ordered) > ordered[0].outputs:
            continue
        for place, side in enumerate(ordered):
            found[side.parameter] = Compared(place, len(ordered), products[side.parameter].index)
    return found


def _sides(flow: Flow, operation: Operation) -> tuple[_Side, _Side] | None:
    """The projections behind the two factors of a product that sums over their features."""
    step = flow.step(operation)
    if step is Step.CONTRACT:
        both = factors(operation)
    elif step is Step.MULTIPLY and word(operation) == "mul" and _summed(flow, operation):
        sources = flow.sources(operation)
        both = (sources[0], sources[1]) if len(sources) == 2 else None
    else:
        both = None
    if both is None or not operation.outputs or not ends_in_output(flow, operation.outputs[0]):
        return None
    if _flattened(flow, operation.outputs[0]):
        return None
    left, right = (_projection(flow, tensor) for tensor in both)
    if left is None or right is None:
        return None
    inner = flow.reading.shape(both[0])[-1]
    return (left, right) if inner == left.outputs == right.outputs else None


def _summed(flow: Flow, product: Operation) -> bool:
    """Whether a product of elements is summed over its last axis, and read by nothing else."""
    readers = flow.graph.consumers.get(product.outputs[0], ())
    return len(readers) == 1 and word(readers[0]) == "sum" and _over_last(readers[0], flow)


def _over_last(operation: Operation, flow: Flow) -> bool:
    axes = operation.args[1] if len(operation.args) > 1 else None
    last = len(flow.reading.shape(operation.inputs[0])) - 1
    return isinstance(axes, list | tuple) and list(axes) in ([-1], [last])


def _flattened(flow: Flow, tensor: int) -> bool:
    """Whether anything between a product and the outputs is flat at 0."""
    front, seen = [tensor], set[int]()
    while front:
        current = front.pop()
        for reader in flow.graph.consumers.get(current, ()):
            if word(reader) in _FLAT_AT_ZERO:
                return True
            new = [out for out in reader.outputs if out not in seen]
            seen.update(new)
            front.extend(new)
    return False


def _projection(flow: Flow, tensor: int) -> _Side | None:
    """The one weight whose result, divided by its own norm, is this factor."""
    divided = False
    projections: dict[str, Use] = {}
    for _, maker in flow.back(tensor, lambda operation, _: _keeps_features(flow, operation)):
        if maker is None:
            return None
        if flow.step(maker) is Step.WEIGHT:
            uses = flow.weights_at(maker)
            if len(uses) != 1 or uses[0].part is not Part.WEIGHT:
                return None
            projections[uses[0].parameter] = uses[0]
        elif not _keeps_features(flow, maker):
            return None
        divided = divided or flow.step(maker) is Step.NORM
    if not divided or len(projections) != 1:
        return None
    use = next(iter(projections.values()))
    axes = use.axes
    if axes is None or len(axes.outputs) != 1 or axes.block_sizes or axes.batch or axes.groups > 1:
        return None
    outputs = flow.graph.parameters[use.parameter].shape[axes.outputs[0]]
    return _Side(use.parameter, outputs, use.operation.index)


def _keeps_features(flow: Flow, operation: Operation) -> bool:
    """Whether a feature that is 0 in all of a tower's results is 0 behind an operation too."""
    step = flow.step(operation)
    if step is Step.MOVE:
        return True
    if step is Step.NORM:
        # By hand, and by a size alone: what subtracts a mean moves every feature.
        return word(operation) in _DIVISIONS
    return step is Step.SCALE and not any(t in flow.regions.statistics for t in operation.inputs)
