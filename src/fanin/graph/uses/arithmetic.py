"""Computing with parameters alone: casts, splits, standardisation, parametrisations."""

from dataclasses import replace
from typing import Any

from fanin.graph.graph import Operation
from fanin.graph.labels import ANONYMOUS, Atom, Labels
from fanin.graph.reading import Reading, WeightValue
from fanin.graph.structure import argument, moved_labels
from fanin.graph.vocabulary import (
    COPIES,
    ELEMENTWISE,
    MERGES,
    MOVES,
    NORMS,
    REDUCTIONS,
    SOFTMAXES,
    word,
)

_STRUCTURE_IS_SILENT = COPIES | frozenset(
    (
        "view",
        "_unsafe_view",
        "reshape",
        "t",
        "transpose",
        "permute",
        "squeeze",
        "unsqueeze",
        "expand",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "unsafe_split",
        "unbind",
        "chunk",
        "copy_",
        "cat",
        "stack",
    )
)


def read(operation: Operation, reading: Reading) -> bool:
    """No signal takes part: what comes out is still a weight."""
    weights = reading.weights_of(operation)
    if not weights or reading.signals_of(operation):
        return False
    name = word(operation)
    offset = 0.0
    labels: list[dict[str, Labels]] = [{} for _ in operation.outputs]
    for tensor in weights:
        value = reading.weights[tensor]
        offset = value.offset or offset
        for parameter, known in value.labels.items():
            for out, after in enumerate(_after(operation, reading, name, known, tensor)):
                if out < len(labels):
                    done = after if name in _STRUCTURE_IS_SILENT else after.after(name)
                    _keep_fuller(labels[out], parameter, done)
    if name in ("add", "rsub", "sub"):
        number = argument(operation, 1, "other")
        if isinstance(number, int | float):
            offset += float(number) if name != "sub" else -float(number)
    for out, made in zip(operation.outputs, labels, strict=True):
        if reading.graph.tensors[out].dtype.startswith(
            ("float", "bfloat", "complex", "int8", "bool")
        ):
            reading.weights[out] = WeightValue(made, offset)
    return True


def _keep_fuller(kept: dict[str, Labels], parameter: str, labels: Labels) -> None:
    """Of two routes of one parameter into a tensor, the one that still shows more axes."""
    known = kept.get(parameter)
    if known is None or _seen(labels) > _seen(known):
        kept[parameter] = labels


def _seen(labels: Labels) -> int:
    if labels.dims is None:
        return -1
    return sum(1 for atoms in labels.dims for atom in atoms if atom.axis != ANONYMOUS)


def _after(
    operation: Operation, reading: Reading, name: str, labels: Labels, tensor: int
) -> list[Labels]:
    shapes = [reading.shape(out) for out in operation.outputs]
    shape = reading.shape(tensor)
    if name in ("cat", "stack", "concat"):
        return [_joined(operation, name, labels, len(shape))]
    if name in MOVES or name == "copy_":
        return moved_labels(reading.graph, operation, labels, tensor)
    if name in ELEMENTWISE or name in SOFTMAXES or name in NORMS or name in MERGES:
        return [labels.expanded(out) if _fits(shape, out) else labels.opaque() for out in shapes]
    if name in REDUCTIONS:
        gone = argument(operation, 1, "dim")
        return [_reduced(labels, shape, out, gone) for out in shapes]
    same = [labels if out == shape else labels.opaque() for out in shapes]
    if name == "_weight_norm_interface":
        same = [labels.expanded(shapes[0]), labels.opaque()]
    return same


def _fits(shape: tuple[int, ...], out: tuple[int, ...]) -> bool:
    if len(shape) > len(out):
        return False
    tail = out[len(out) - len(shape) :]
    return all(n in (1, size) for n, size in zip(shape, tail, strict=True))


def _reduced(labels: Labels, shape: tuple[int, ...], out: tuple[int, ...], gone: Any) -> Labels:
    if labels.dims is None:
        return labels
    if len(out) == len(shape):
        dims = tuple(
            atoms if shape[d] == out[d] else (Atom(ANONYMOUS, out[d]),)
            for d, atoms in enumerate(labels.dims)
        )
        return replace(labels, dims=dims)
    if isinstance(gone, int):
        gone = (gone,)
    if isinstance(gone, tuple) and len(out) == len(shape) - len(gone):
        # What is mixed along an axis is independent along it: several kernels in one mixture.
        return labels.without([dim % len(shape) for dim in gone])
    return labels.opaque()


def _joined(operation: Operation, name: str, labels: Labels, rank: int) -> Labels:
    """Each weight keeps its axes in a concatenation; along the joined one it is a part."""
    if labels.dims is None:
        return labels
    if name == "stack":
        place = argument(operation, 1, "dim", 0) % (rank + 1)
        dims = (*labels.dims[:place], (), *labels.dims[place:])
        return replace(labels, dims=dims)
    return labels
