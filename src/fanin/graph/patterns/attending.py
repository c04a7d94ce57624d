"""Attention: which weights make q, k and v, and which one takes what attention gives."""

from dataclasses import dataclass, field

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.patterns.channels import Runs, channels_at, rows
from fanin.graph.patterns.logit_scale import logit_std
from fanin.graph.reading import AttentionCore
from fanin.graph.use import Use
from fanin.graph.uses.contraction import factors

_SCORES = frozenset(
    (Step.MOVE, Step.SCALE, Step.BEND, Step.SOFTMAX, Step.ADD, Step.MERGE, Step.NORM)
)
_PROJECTION = frozenset((Step.MOVE, Step.SCALE, Step.BEND, Step.MERGE, Step.NORM, Step.ADD))
_OUT = frozenset(
    (Step.MOVE, Step.SCALE, Step.NORM, Step.MULTIPLY, Step.BEND, Step.MERGE, Step.REDUCE)
)


@dataclass
class Attending:
    """What attention makes of the weights around it.

    ``parts`` maps a parameter to the pieces of its outputs: ("q" | "k" | "v", rows, operation).
    """

    parts: dict[str, list[tuple[str, Runs, Operation]]] = field(default_factory=dict)
    out: dict[str, Operation] = field(default_factory=dict)
    scores: set[int] = field(default_factory=set)
    """Indices of hand-written products q kᵀ and what becomes of them up to the softmax."""
    logit_std: dict[str, float] = field(default_factory=dict)
    """Weights of q or k -> std of the logits where both have unit variance; unknown ones absent."""


def find_attention(flow: Flow) -> Attending:
    """Every attention of the graph, as one operation or written by hand."""
    found = Attending()
    for core in [*flow.reading.attentions, *_by_hand(flow, found)]:
        for letter, tensor in (("q", core.query), ("k", core.key), ("v", core.value)):
            for use in projections(flow, tensor):
                runs = rows(use, channels_at(flow, use, tensor))
                pieces = found.parts.setdefault(use.parameter, [])
                pieces.append((letter, runs, core.operation))
        for use in _takers(flow, core.result):
            found.out.setdefault(use.parameter, core.operation)
        std = logit_std(flow, core, lambda operation, step: _projects(flow, operation, step))
        if std is not None:
            reads = [*projections(flow, core.query), *projections(flow, core.key)]
            found.logit_std |= {use.parameter: std for use in reads}
    return found


def projections(flow: Flow, tensor: int) -> list[Use]:
    """The weights whose results, turned, scaled and normalised, are this tensor.

    A sum is passed only if all its terms come from the same weights (rotary positions): where
    they do not, it is a residual stream and not a projection.
    """
    uses: dict[tuple[int, str], Use] = {}
    for _, maker in flow.back(tensor, lambda operation, step: _projects(flow, operation, step)):
        if maker is not None and flow.step(maker) is Step.WEIGHT:
            for use in flow.weights_at(maker):
                if use.source is not None:
                    uses[maker.index, use.parameter] = use
    return list(uses.values())


def _projects(flow: Flow, operation: Operation, step: Step) -> bool:
    """Whether an operation may stand between a projection and what attention reads."""
    if step is Step.MULTIPLY:
        # Rotary angles computed from float inputs: a factor that no weight has made.
        return any(not flow.is_weighted(t) for t in flow.sources(operation))
    if step is not Step.ADD:
        return step in _PROJECTION
    origins = [
        {(u.operation.index, u.parameter) for u in flow.weights_behind(t, _ROTARY)[0]}
        for t in flow.sources(operation)
    ]
    return bool(origins) and all(o == origins[0] and o for o in origins)


_ROTARY = frozenset((Step.MOVE, Step.SCALE, Step.BEND, Step.MERGE, Step.NORM, Step.MULTIPLY))


def _takers(flow: Flow, tensor: int) -> list[Use]:
    """The first weights that read what attention gives."""
    front, seen = [tensor], set[int]()
    uses: list[Use] = []
    while front:
        current = front.pop()
        for consumer in flow.graph.consumers.get(current, ()):
            if consumer.index in seen:
                continue
            seen.add(consumer.index)
            step = flow.step(consumer)
            if step is Step.WEIGHT:
                uses.extend(use for use in flow.weights_at(consumer) if use.source is not None)
            elif step in _OUT:
                front.extend(consumer.outputs[:1])
    return uses


def _by_hand(flow: Flow, found: Attending) -> list[AttentionCore]:
    """``f(q kᵀ) v`` and ``q (kᵀ v)`` written out as products of signals."""
    cores = []
    for operation in flow.graph.operations:
        if flow.step(operation) is not Step.CONTRACT:
            continue
        both = factors(operation)
        if both is None:
            continue
        left, right = both
        scores, linear = _scores_behind(flow, left), False
        weighed, other = left, right
        if not scores:
            scores, linear = _scores_behind(flow, right), True
            weighed, other = right, left
            if scores and _through_softmax(flow, right):
                linear = False  # vᵀ f(k qᵀ): the factors merely stand the other way round
        for first in scores:
            query, key = factors(first) or (other, other)
            result = operation.outputs[0]
            if linear:
                cores.append(AttentionCore(operation, other, query, key, result))
            else:
                cores.append(AttentionCore(operation, query, key, other, result))
            found.scores.update(t for t, _ in flow.back(weighed, lambda _, step: step in _SCORES))
    return cores


def _scores_behind(flow: Flow, tensor: int) -> list[Operation]:
    met = flow.back(tensor, lambda _, step: step in _SCORES, limit=200)
    makers = {m.index: m for _, m in met if m is not None}
    # In order of running: content against content comes before positions.
    return [m for _, m in sorted(makers.items()) if flow.step(m) is Step.CONTRACT]


def _through_softmax(flow: Flow, tensor: int) -> bool:
    met = flow.back(tensor, lambda _, step: step in _SCORES, limit=200)
    return any(m is not None and flow.step(m) is Step.SOFTMAX for _, m in met)
