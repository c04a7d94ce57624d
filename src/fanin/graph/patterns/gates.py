"""Which block of a recurrent weight is which gate."""

from fanin.graph.activations import named
from fanin.graph.evidence import Facts
from fanin.graph.flow import Flow, Step
from fanin.graph.patterns.channels import channels_at
from fanin.graph.patterns.recurrence import GATES
from fanin.graph.use import Use

_TO_GATE = frozenset((Step.MOVE, Step.SCALE, Step.ADD, Step.NORM, Step.MULTIPLY))


def gate_names(facts: Facts, name: str, kind: str) -> tuple[str, ...]:
    """Names of the gates along a recurrent weight's outputs, in order; empty where unknown.

    Torch's own modules document their order. In a cell written by hand tanh makes the candidate
    (g, or n in a GRU), and what its sigmoids multiply tells the gates apart.
    """
    if name in facts.recurrence.by_torch:
        return GATES[kind]
    use = next((u for u in facts.uses[name] if u.source is not None), None)
    if use is None or kind not in ("lstm", "gru"):
        return ()
    size = facts.flow.reading.shape(use.result)[-1] // len(GATES[kind])
    squashed = _squashed(facts.flow, use, size)
    if set(squashed) != set(range(len(GATES[kind]))):
        return ()
    naming = _lstm if kind == "lstm" else _gru
    names = tuple(naming(facts.flow, squashed, block) for block in sorted(squashed))
    return names if set(names) == set(GATES[kind]) else ()


def _squashed(flow: Flow, use: Use, size: int) -> dict[int, int]:
    """Block -> the first squashed tensor that comes of it alone."""
    found: dict[int, int] = {}
    front, seen = [use.result], set[int]()
    while front:
        tensor = front.pop(0)
        for consumer in flow.graph.consumers.get(tensor, ()):
            if consumer.index in seen or not consumer.outputs:
                continue
            seen.add(consumer.index)
            step = flow.step(consumer)
            if step is Step.BEND:
                runs = channels_at(flow, use, tensor)
                if len(runs) == 1 and runs[0][1] == size and runs[0][0] % size == 0:
                    found.setdefault(runs[0][0] // size, consumer.outputs[0])
            elif step in _TO_GATE:
                front.extend(consumer.outputs)
    return found


def _lstm(flow: Flow, squashed: dict[int, int], block: int) -> str:
    tensor = squashed[block]
    if named(flow.regions, tensor).name == "tanh":
        return "g"
    candidates = {t for t in squashed.values() if named(flow.regions, t).name == "tanh"}
    for consumer in flow.graph.consumers.get(tensor, ()):
        if flow.step(consumer) is Step.MULTIPLY:
            others = [t for t in flow.sources(consumer) if t != tensor]
            if candidates & set(others):
                return "i"
            if any(t in flow.regions.curved for t in others):
                return "o"
    return "f"


def _gru(flow: Flow, squashed: dict[int, int], block: int) -> str:
    tensor = squashed[block]
    if named(flow.regions, tensor).name == "tanh":
        return "n"
    candidates = [t for t in squashed.values() if named(flow.regions, t).name == "tanh"]
    return "r" if any(flow.depends_on(t, tensor)[0] for t in candidates) else "z"
