"""Several independent weights in one parameter, which uses read slice by slice."""

from fanin.axes import Axes
from fanin.graph.evidence import Facts
from fanin.graph.flow import TRANSPARENT, Step
from fanin.graph.patterns.channels import partition
from fanin.graph.use import Use


def stacked(
    facts: Facts, uses: list[Use], shape: tuple[int, ...], axes: Axes | None
) -> Axes | None:
    """Axes with blocks where the uses read one parameter slice by slice."""
    if axes is None or axes.block_sizes or not axes.outputs:
        return axes
    axes = _stacked_inputs(facts, uses, shape, axes)
    axis = axes.outputs[0]
    runs = _slices(uses, axis)
    starts = sorted(run for run in runs if run[1] < shape[axis])
    sizes, _ = partition([("", [run]) for run in starts], shape[axis])
    return replace_axes(axes, sizes) if sizes else axes


def _stacked_inputs(facts: Facts, uses: list[Use], shape: tuple[int, ...], axes: Axes) -> Axes:
    """Experts stacked along the input axis: each sums over its own slice alone."""
    if len(axes.inputs) != 1 or axes.transposed or axes.groups > 1:
        return axes
    axis = axes.inputs[0]
    runs = _slices(uses, axis)
    sizes = {size for _, size in runs}
    if len(sizes) != 1 or (size := sizes.pop()) in (0, shape[axis]) or shape[axis] % size:
        return axes
    if any(start % size for start, _ in runs) or _added_up(facts, uses):
        return axes
    return Axes(**{**axes.__dict__, "groups": shape[axis] // size, "transposed": True})


def _slices(uses: list[Use], axis: int) -> set[tuple[int, int]]:
    """The runs (start, size) of an axis that the uses read, each once."""
    traced = [u for u in uses if u.labels.dimensions_of(axis) and axis not in u.labels.summed]
    return {run for use in traced for run in use.labels.indices(axis)[:1]}


def _added_up(facts: Facts, uses: list[Use]) -> bool:
    """Whether the results of several uses are terms of one sum: parts of one long product."""
    met: set[int] = set()
    for use in uses:
        front, seen = [use.result], set[int]()
        while front:
            tensor = front.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            for consumer in facts.graph.consumers.get(tensor, ()):
                if facts.flow.step(consumer) in (*TRANSPARENT, Step.ADD):
                    front.extend(consumer.outputs)
        if met & seen:
            return True
        met |= seen
    return False


def replace_axes(axes: Axes, block_sizes: tuple[int, ...]) -> Axes:
    """The same axes with blocks."""
    return Axes(**{**axes.__dict__, "block_sizes": block_sizes})
