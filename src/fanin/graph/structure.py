"""What one structural operation does to the labels of its input."""

from collections.abc import Sequence
from typing import Any

from fanin.graph.graph import Graph, Operation, Ref
from fanin.graph.labels import Labels
from fanin.graph.vocabulary import COPIES, PERMUTATIONS, RESHAPES, SLICES, word

_SAME_AXES = frozenset(("copy_", "tril", "triu"))
"""Each element stays at its place, if only some of them do."""


def argument(operation: Operation, position: int, name: str, default: Any = None) -> Any:
    """An argument that may be given by position or by name."""
    if position < len(operation.args):
        return operation.args[position]
    return operation.kwargs.get(name, default)


def tensor_argument(operation: Operation, position: int, name: str = "") -> int | None:
    """Id of a tensor argument; None where it is absent or not a tensor."""
    value = argument(operation, position, name)
    return value.tensor if isinstance(value, Ref) else None


def moved_labels(graph: Graph, operation: Operation, labels: Labels, source: int) -> list[Labels]:
    """Labels of every output of a structural operation, given those of its input ``source``."""
    shapes = [graph.tensors[out].shape for out in operation.outputs]
    shape = graph.tensors[source].shape
    name = word(operation)
    if name in RESHAPES:
        return [labels.reshaped(out) for out in shapes]
    if name in COPIES or name in _SAME_AXES:
        return [labels if out == shape else labels.expanded(out) for out in shapes]
    if name in PERMUTATIONS:
        return [labels.permuted(_order(operation, name, len(shape)))]
    if name == "view_as_complex":
        # The last axis holds the real and the imaginary part: two independent numbers.
        return [labels.without([len(shape) - 1])]
    if "upsample" in name and len(shapes[0]) == len(shape):
        return [labels.resampled(shapes[0])]
    if name == "view_as_real":
        return [labels.widened(2)]
    if name in ("expand", "expand_copy"):
        return [labels.expanded(shapes[0])]
    if name in SLICES:
        return _parts(operation, name, labels, shape, shapes)
    if name == "repeat" and len(shapes[0]) >= len(shape):
        repeats = tuple(int(n) for n in argument(operation, 1, "repeats"))[-len(shape) :]
        if all(n == 1 or size == 1 for n, size in zip(repeats, shape, strict=True)):
            return [labels.expanded(shapes[0])]
    return [labels.opaque() for _ in shapes]


def _order(operation: Operation, name: str, count: int) -> list[int]:
    if name.startswith(("t_", "numpy_T")) or name == "t":
        return list(reversed(range(count)))
    if name.startswith("permute"):
        return [d % count for d in argument(operation, 1, "dims")]
    if name == "movedim":
        sources = _axes(argument(operation, 1, "source"), count)
        targets = _axes(argument(operation, 2, "destination"), count)
        rest = iter([d for d in range(count) if d not in sources])
        return [sources[targets.index(d)] if d in targets else next(rest) for d in range(count)]
    first = argument(operation, 1, "dim0") % count
    second = argument(operation, 2, "dim1") % count
    order = list(range(count))
    order[first], order[second] = order[second], order[first]
    return order


def _axes(value: Any, count: int) -> list[int]:
    return [v % count for v in ([value] if isinstance(value, int) else value)]


def _parts(
    operation: Operation,
    name: str,
    labels: Labels,
    shape: Sequence[int],
    shapes: Sequence[tuple[int, ...]],
) -> list[Labels]:
    count = len(shape)
    if name.startswith(("select", "unbind")):
        single = name.startswith("select")
        dimension = argument(operation, 1, "dim", 0) % count
        first = argument(operation, 2, "index", 0) if single else 0
        if not isinstance(first, int):
            return [labels.opaque() for _ in shapes]
        first %= max(shape[dimension], 1)
        return [
            labels.sliced(dimension, first + i, 1).without([dimension]) for i in range(len(shapes))
        ]
    if name.startswith(("slice", "narrow")):
        dimension = argument(operation, 1, "dim", 0) % count
        start = argument(operation, 2, "start", 0) or 0
        start = max(start + shape[dimension], 0) if start < 0 else min(start, shape[dimension])
        step = argument(operation, 4, "step", 1) if name.startswith("slice") else 1
        return [labels.sliced(dimension, start, shapes[0][dimension], step)]
    dimension = argument(operation, 2, "dim", 0) % count
    pieces, start = [], 0
    for out in shapes:
        pieces.append(labels.sliced(dimension, start, out[dimension]))
        start += out[dimension]
    return pieces
