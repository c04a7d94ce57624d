"""Low-rank adapters: ``W x + B (A x)``, and ``(W + B A) x``."""

from math import prod

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.use import Part, Use


def find_adapters(flow: Flow, ignored: set[str]) -> dict[str, tuple[str, Operation]]:
    """Parameter -> ("down" | "up", the operation that shows it), the ``ignored`` ones aside.

    The sums that adapters add to are bypassed in ``flow``, so that the layer underneath is read
    as if it stood alone.
    """
    found: dict[str, tuple[str, Operation]] = {}
    for operation in flow.graph.operations:
        if flow.step(operation) is Step.ADD:
            sources = flow.sources(operation)
            if len(sources) == 2:
                _beside(flow, operation, sources, ignored, found)
    for use in flow.reading.uses:
        if use.part is Part.WEIGHT and use.labels.summed:
            _inside(flow, use, found)
    return found


def _single(flow: Flow, tensor: int) -> Use | None:
    """The one weight of which this tensor is the result; None for none or several."""
    uses, complete = flow.weights_behind(tensor)
    real = [use for use in uses if use.part is Part.WEIGHT and use.source is not None]
    return real[0] if complete and len(real) == 1 and len(uses) == 1 else None


def _root(flow: Flow, tensor: int) -> set[int]:
    return {t for t, _ in flow.back(tensor, lambda _, step: step in (Step.MOVE, Step.SCALE))}


def _beside(
    flow: Flow,
    operation: Operation,
    sources: list[int],
    ignored: set[str],
    found: dict[str, tuple[str, Operation]],
) -> None:
    ends = [_single(flow, tensor) for tensor in sources]
    for place in (0, 1):
        base, up, tensor = ends[place], ends[1 - place], sources[place]
        if base is None or up is None or base.source is None or up.source is None:
            continue
        if base.parameter == up.parameter:
            continue
        down = _single(flow, up.source)
        if down is None or down.source is None or down.parameter in (base.parameter, up.parameter):
            continue
        if {base.parameter, up.parameter} & ignored:
            continue
        if not _root(flow, base.source) & _root(flow, down.source):
            continue
        if _rank(flow, down) >= min(_rank(flow, base), _inputs(flow, base)):
            continue
        found[down.parameter] = ("down", operation)
        found[up.parameter] = ("up", operation)
        flow.bypass(operation, tensor)
        return


def _rank(flow: Flow, use: Use) -> int:
    """Number of outputs."""
    if use.axes is None or not use.axes.outputs:
        return 1
    return flow.graph.parameters[use.parameter].shape[use.axes.outputs[0]]


def _inputs(flow: Flow, use: Use) -> int:
    if use.axes is None:
        return 1
    shape = flow.graph.parameters[use.parameter].shape
    return prod(shape[axis] for axis in use.axes.inputs)


def _inside(flow: Flow, use: Use, found: dict[str, tuple[str, Operation]]) -> None:
    """A factor of a low-rank product that is added to a whole weight before use."""
    companions = flow.reading.weights[use.operand].labels
    if all(labels.summed for labels in companions.values()) or use.axes is None:
        return
    side = "up" if set(use.labels.summed) & set(use.axes.inputs) else "down"
    found[use.parameter] = (side, use.operation)
