"""Streams of residual sums: how many branches join them, and where norms stand on them."""

from dataclasses import dataclass, field

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.use import Use

_STREAM = frozenset((Step.MOVE, Step.SCALE, Step.BEND, Step.NORM, Step.POOL, Step.MERGE))


@dataclass
class ResidualAdd:
    """One sum: the stream that goes on, the branch that joins, the weights that end the branch."""

    operation: Operation
    stream: int
    branch: int
    start: int
    """The tensor of the stream that the branch was computed from."""
    writers: list[Use] = field(default_factory=list)
    shortcut: list[Use] = field(default_factory=list)
    scaled: bool = False
    """The stream is multiplied by a parameter on its way."""
    branches: int = 1
    """Residual sums on the longest path through this one."""
    post_norm: bool = False
    """Along its stream most sums are read by a normalisation and by nothing else."""
    chain: int = 0
    """Index of the first sum of its stream."""
    normed_stream: bool = False
    """A normalisation stands on its stream between two sums."""


def join_into_streams(flow: Flow, found: list[ResidualAdd]) -> None:
    """Chains: a sum follows the sum that its stream comes from."""
    by_result = {add.operation.outputs[0]: add for add in found}
    above: dict[int, int] = {}
    parent: dict[int, ResidualAdd] = {}
    normed: set[int] = set()
    widened: set[int] = set()
    for add in found:
        previous, past_norm, past_layer = _previous(flow, add, by_result)
        if previous is not None:
            parent[add.operation.index] = previous
            normed |= {add.operation.index} if past_norm else set()
            widened |= {previous.operation.index} if past_layer else set()
        before = above[previous.operation.index] if previous is not None else 0
        above[add.operation.index] = before + 1
    below: dict[int, int] = {add.operation.index: 0 for add in found}
    for add in reversed(found):
        previous = parent.get(add.operation.index)
        if previous is not None:
            index = previous.operation.index
            below[index] = max(below[index], below[add.operation.index] + 1)
    for add in found:
        add.branches = above[add.operation.index] + below[add.operation.index]
    streams: dict[int, list[ResidualAdd]] = {}
    first: dict[int, int] = {}
    for add in found:
        index = add.operation.index
        previous = parent.get(index)
        first[index] = first[previous.operation.index] if previous is not None else index
        streams.setdefault(first[index], []).append(add)
    for stream in streams.values():
        # The last sum of a pre-norm stream is read by the final norm alone: one is no rule. Nor is
        # the norm before a layer that changes the width between stages.
        closed = sum(
            _only_normalised(flow, add.operation.outputs[0])
            for add in stream
            if add.operation.index not in widened
        )
        for add in stream:
            add.post_norm = 2 * closed > len(stream)
            add.chain = first[add.operation.index]
            add.normed_stream = any(other.operation.index in normed for other in stream)


def _only_normalised(flow: Flow, tensor: int) -> bool:
    """Whether a normalisation is all that reads a signal, past dropout and casts."""
    front, seen, normalised = [tensor], set[int](), False
    while front:
        current = front.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in flow.graph.outputs:
            return False
        for consumer in flow.graph.consumers.get(current, ()):
            if flow.step(consumer) is Step.NORM:
                normalised = True
            elif flow.step(consumer) is Step.MOVE:
                front.extend(consumer.outputs[:1])
            elif not all(flow.in_norm(out) for out in consumer.outputs):
                return False
    return normalised


def _previous(
    flow: Flow, add: ResidualAdd, by_result: dict[int, ResidualAdd]
) -> tuple[ResidualAdd | None, bool, bool]:
    """The sum from which the stream of this one comes, past norms, pooling and single layers.

    Returns:
        The sum, if any, whether a norm stands between the two, and whether a layer does.
    """
    tensor, steps, layers, normed = add.stream, 0, 0, False
    while steps < 400:
        steps += 1
        if tensor in by_result:
            return by_result[tensor], normed, layers > 0
        maker = flow.made_by(tensor)
        if maker is None:
            return None, normed, layers > 0
        step, sources = flow.step(maker), flow.sources(maker)
        normed = normed or step is Step.NORM
        if step is Step.WEIGHT:
            source = next((u.source for u in flow.weights_at(maker) if u.source is not None), None)
            layers += 1
            # One layer changes the width between stages; two are another network's beginning.
            if source is None or layers > 1:
                return None, normed, layers > 0
            tensor = source
        elif (step in _STREAM or step is Step.ADD) and sources:
            # Of several signals the main one is the one made last.
            tensor = max(sources) if step is Step.ADD else sources[0]
        else:
            return None, normed, layers > 0
    return None, normed, layers > 0
