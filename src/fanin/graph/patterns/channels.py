"""Which output channels of a weight arrive at a tensor: how packed projections come apart."""

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.labels import Labels
from fanin.graph.structure import moved_labels
from fanin.graph.use import Use
from fanin.graph.uses.contraction import factors
from fanin.graph.vocabulary import word

Runs = list[tuple[int, int]]
"""Sorted runs (start, size) of channel numbers."""


def channel_dimension(flow: Flow, use: Use) -> int:
    """The dimension of a weight's result that runs along its outputs."""
    rank = len(flow.reading.shape(use.result))
    if "convolution" in use.family:
        return 1 if rank > 2 else 0
    both = factors(use.operation)
    if both is not None and both[0] == use.operand and both[1] != use.operand:
        return max(rank - 2, 0)
    return rank - 1


def channels_at(flow: Flow, use: Use, target: int) -> Runs:
    """The output channels of ``use`` that reach ``target``; empty where none can be traced.

    Channels are counted in the result of the operation; see ``rows`` for the parameter's.
    """
    labelled = labels_at(flow, use, target)
    return labelled[1] if labelled is not None else []


def labels_at(flow: Flow, use: Use, target: int) -> tuple[Labels, Runs] | None:
    """Labels of ``target`` by the output channels of ``use``, and which ones it holds.

    Axis 0 of the labels is that of the channels; axis 1, where the weight is a stack of
    independent ones, tells these apart.
    """
    shape = flow.reading.shape(use.result)
    if not shape:
        return None
    start = use.operation.index
    met = flow.back(
        target,
        lambda op, step: op.index > start and step not in (Step.WEIGHT, Step.NONE, Step.ATTENTION),
    )
    stacked = len(shape) == 3 and use.family == "einsum" and use.axes and use.axes.batch
    first = Labels.along(shape, channel_dimension(flow, use), *((0,) if stacked else ()))
    known: dict[int, tuple[Labels, Runs]] = {use.result: (first, first.indices(0))}
    makers = {m.index: m for _, m in met if m is not None and m.index > start}
    for index in sorted(makers):
        _propagate(flow, makers[index], known)
    return known.get(target)


def _propagate(flow: Flow, operation: Operation, known: dict[int, tuple[Labels, Runs]]) -> None:

    sources = [t for t in flow.sources(operation) if t in known]
    if not sources:
        return
    step, graph = flow.step(operation), flow.graph
    if step is Step.MOVE and word(operation) != "updated":
        labels, runs = known[sources[0]]
        for out, after in zip(
            operation.outputs, moved_labels(graph, operation, labels, sources[0]), strict=False
        ):
            known[out] = (after, runs if after.dims is None else after.indices(0))
        return
    runs = _union([known[t][1] for t in sources])
    for out in operation.outputs[:1]:
        shape = graph.tensors[out].shape
        same = [t for t in sources if graph.tensors[t].shape == shape and known[t][0].dims]
        mixes = step in (Step.MERGE, Step.OTHER, Step.REDUCE) or not same
        labels = known[sources[0]][0].opaque() if mixes else known[same[0]][0]
        known[out] = (labels, runs)


def _union(many: list[Runs]) -> Runs:
    runs: Runs = []
    for start, size in sorted(run for some in many for run in some):
        if runs and start <= runs[-1][0] + runs[-1][1]:
            end = max(runs[-1][0] + runs[-1][1], start + size)
            runs[-1] = (runs[-1][0], end - runs[-1][0])
        else:
            runs.append((start, size))
    return runs


def rows(use: Use, runs: Runs) -> Runs:
    """Channels of a result as rows of the parameter, along its first output axis."""
    if use.axes is None or not use.axes.outputs:
        return runs
    axis = use.axes.outputs[0]
    offset = use.labels.starts[axis] if axis < len(use.labels.starts) else 0
    steps = {atom.step for _, atom in use.labels.dimensions_of(axis)}
    return [(start + offset, size) for start, size in runs] if steps <= {1} else runs


def count(runs: Runs) -> int:
    """How many channels."""
    return sum(size for _, size in runs)


def partition(pieces: list[tuple[str, Runs]], size: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Named runs as consecutive blocks of an axis of ``size``; empty unless they tile it."""
    flat = sorted((start, length, name) for name, runs in pieces for start, length in runs)
    flat = [piece for i, piece in enumerate(flat) if i == 0 or piece != flat[i - 1]]
    at = 0
    for start, length, _ in flat:
        if start != at:
            return (), ()
        at += length
    if at != size or len(flat) < 2:
        return (), ()
    return tuple(length for _, length, _ in flat), tuple(name for _, _, name in flat)
