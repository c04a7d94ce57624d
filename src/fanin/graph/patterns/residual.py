"""Residual branches: sums of a stream and of something computed from that same stream."""

from math import prod

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.patterns.residual_streams import ResidualAdd, join_into_streams
from fanin.graph.use import Part, Use

_IDENTITY = frozenset((Step.MOVE, Step.SCALE, Step.ADD, Step.POOL, Step.MERGE))
_BRANCH_END = frozenset(
    (
        Step.MOVE,
        Step.SCALE,
        Step.BEND,
        Step.ADD,
        Step.NORM,
        Step.POOL,
        Step.REDUCE,
        Step.MULTIPLY,
        Step.MERGE,
    )
)
_NEAREST = 48  # how far up its stream a sum looks for the tensor that the branch read


def find_residuals(flow: Flow, ignored: set[str], scores: set[int]) -> list[ResidualAdd]:
    """All residual sums, in order of running, each with the length of its chain.

    Args:
        flow: the signals.
        ignored: parameters whose results are summed for another reason (recurrent layers).
        scores: attention scores, to which biases and masks are added.
    """
    found: list[ResidualAdd] = []
    for operation in flow.graph.operations:
        terms = _terms(flow, operation)
        if terms is None or operation.outputs[0] in scores:
            continue
        if any(use.parameter in ignored for t in terms for use in flow.weights_behind(t)[0]):
            continue
        residual = _identity(flow, operation, *terms) or _projected(flow, operation, *terms)
        if residual is not None and not _is_answer(flow, residual.branch):
            found.append(residual)
    join_into_streams(flow, found)
    # A lone skip with a learned factor (the D x beside a scan) is part of its layer; in a chain
    # it is the stream itself.
    return [add for add in found if not add.scaled or add.branches > 1]


def _is_answer(flow: Flow, branch: int) -> bool:
    """Whether the model returns a branch as it is: the sum compares it with what it should be."""
    met = flow.back(branch, lambda _, step: step is Step.MOVE, limit=_NEAREST)
    return any(tensor in flow.graph.outputs for tensor, _ in met)


def _terms(flow: Flow, operation: Operation) -> tuple[int, int] | None:
    addend = flow.reading.addends.get(operation.index)
    if addend is not None and flow.weights_at(operation):
        return addend, operation.outputs[0]
    if flow.step(operation) is not Step.ADD:
        return None
    sources = flow.sources(operation)
    if len(sources) == 3 and operation.name.startswith("addcmul"):
        # self + gate * branch: the gated product is the branch.
        return sources[0], sources[2]
    return (sources[0], sources[1]) if len(sources) == 2 else None


def _identity(flow: Flow, operation: Operation, left: int, right: int) -> ResidualAdd | None:
    """The stream passes unchanged, and the branch was computed from it."""
    best: ResidualAdd | None = None
    for stream, branch in ((left, right), (right, left)):
        if _is_repeated(flow, stream, operation.outputs[0]):
            continue
        if branch == operation.outputs[0]:
            start = _start(flow, stream, flow.weights_at(operation)[0].source or branch, True)
            writers = flow.weights_at(operation)
        else:
            start = _start(flow, stream, branch, False)
            writers = _writers(flow, branch, start) if start is not None else []
        if start is None or (best is not None and start <= best.start):
            continue
        scaled = _is_scaled(flow, stream, start)
        best = ResidualAdd(operation, stream, branch, start, writers, scaled=scaled)
    return best


def _is_repeated(flow: Flow, term: int, result: int) -> bool:
    """Whether a sum repeats a term along some axis: a shift of all places, but no stream."""
    tensors = flow.graph.tensors
    return prod(tensors[term].shape) < prod(tensors[result].shape)


def _start(flow: Flow, stream: int, branch: int, weighted: bool) -> int | None:
    """The nearest tensor of the stream that the branch depends on through a weight."""
    met = flow.back(stream, lambda _, step: step in _IDENTITY, limit=_NEAREST)
    for tensor in sorted({t for t, _ in met}, reverse=True):
        depends, by_weight = flow.depends_on(branch, tensor)
        if by_weight or (weighted and depends):
            return tensor
    return None


def _is_scaled(flow: Flow, stream: int, start: int) -> bool:
    """Whether a parameter multiplies the stream between its start and the sum."""
    met = flow.back(stream, lambda _, step: step in (Step.MOVE, Step.SCALE), limit=_NEAREST)
    makers = [maker for tensor, maker in met if maker is not None and tensor > start]
    return any(
        use.part is Part.FACTOR
        for maker in makers
        for use in flow.reading.uses_at.get(maker.index, ())
    )


def _writers(flow: Flow, branch: int, start: int) -> list[Use]:
    """The last weights of a branch that its stream has passed; a gate's weights do not count."""
    front, seen = [branch], set[int]()
    uses: list[Use] = []
    while front:
        tensor = front.pop()
        maker = flow.made_by(tensor)
        if tensor in seen or maker is None or tensor == start:
            continue
        seen.add(tensor)
        step = flow.step(maker)
        if step is Step.WEIGHT:
            uses.extend(
                use
                for use in flow.weights_at(maker)
                if use.source is not None
                and use.part is Part.WEIGHT
                and flow.depends_on(use.source, start)[0]
            )
        elif step is Step.MULTIPLY:
            sources = flow.sources(maker)
            front.extend([t for t in sources if not _is_share(flow, t)] or sources)
        elif step is Step.ATTENTION:
            front.extend(flow.sources(maker)[2:3])
        elif step is Step.CONTRACT:
            front.extend(t for t in flow.sources(maker) if not _is_share(flow, t))
        elif step in _BRANCH_END:
            front.extend(flow.sources(maker))
    return uses


def _is_share(flow: Flow, tensor: int) -> bool:
    """Whether a signal is what a softmax or a sigmoid gave: shares by which others are mixed."""
    met = flow.back(tensor, lambda _, step: step in (Step.MOVE, Step.SCALE), limit=40)
    return tensor in flow.regions.curved or any(
        maker is not None and flow.step(maker) in (Step.SOFTMAX, Step.BEND) for _, maker in met
    )


def _projected(flow: Flow, operation: Operation, left: int, right: int) -> ResidualAdd | None:
    """The stream passes through one linear layer (a change of width), the branch through more."""
    best: ResidualAdd | None = None
    for stream, branch in ((left, right), (right, left)):
        result = operation.outputs[0]
        if result in (branch, stream) or _is_repeated(flow, stream, result):
            continue
        allowed = (Step.MOVE, Step.SCALE, Step.NORM, Step.POOL)
        uses, complete = flow.weights_behind(stream, allowed)
        starts = {use.source for use in uses}
        if not complete or len(starts) != 1 or (source := starts.pop()) is None:
            continue
        start = _start(flow, source, branch, False)
        if start is None or not _bent_between(flow, branch, start):
            continue
        writers = _writers(flow, branch, start)
        if writers and (best is None or start > best.start):
            best = ResidualAdd(operation, stream, branch, start, writers, uses)
    return best


def _bent_between(flow: Flow, branch: int, start: int) -> bool:
    """Whether a branch has two weights with a nonlinearity between, as no adapter has."""
    last = _writers(flow, branch, start)
    for use in last:
        if use.source is None:
            continue
        bent = False
        for _, maker in flow.back(use.source, lambda _, step: step is not Step.WEIGHT, limit=60):
            if maker is None:
                continue
            step = flow.step(maker)
            bent = bent or step in (Step.BEND, Step.MULTIPLY, Step.ATTENTION, Step.CONTRACT)
            if step is Step.WEIGHT and flow.depends_on(maker.outputs[0], start)[1] and bent:
                return True
    return False
