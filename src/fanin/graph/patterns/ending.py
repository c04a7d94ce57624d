"""What a weight's result comes to: the model's output, or a choice among experts."""

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.vocabulary import word

_TO_OUTPUT = frozenset(
    (Step.MOVE, Step.SCALE, Step.BEND, Step.SOFTMAX, Step.POOL, Step.REDUCE, Step.MERGE,
     Step.OTHER, Step.SUMMARY, Step.NONE)
)  # fmt: skip
_TO_CHOICE = frozenset((Step.MOVE, Step.SCALE, Step.BEND, Step.SOFTMAX, Step.NORM, Step.NONE))
_CHOICES = frozenset(("topk", "sort", "argsort", "argmax", "multinomial", "kthvalue", "one_hot"))


_ALL = frozenset(Step)


def ends_in_output(flow: Flow, tensor: int) -> bool:
    """Whether a signal goes to the model's outputs (or a loss) and nowhere else.

    What the model returns as it is may meet anything but a weight on its way to a loss that is
    written by hand: a difference, a square, a mask, a mean.
    """
    as_it_is, _ = _followed(flow, tensor, frozenset({Step.MOVE}))
    if not as_it_is.isdisjoint(flow.graph.outputs):
        _, complete = _followed(flow, tensor, _ALL - {Step.WEIGHT})
        return complete
    met, complete = _followed(flow, tensor, _TO_OUTPUT)
    return complete and not met.isdisjoint(flow.graph.outputs)


def _followed(flow: Flow, tensor: int, steps: frozenset[Step]) -> tuple[set[int], bool]:
    """What a signal becomes by these steps, and whether it meets no other."""
    front, met, complete = [tensor], set[int](), True
    while front:
        current = front.pop()
        if current in met:
            continue
        met.add(current)
        for consumer in flow.graph.consumers.get(current, ()):
            if flow.step(consumer) in steps:
                front.extend(consumer.outputs)
            else:
                complete = False
    return met, complete


def chooses(flow: Flow, tensor: int) -> Operation | None:
    """The top-k or argmax by which a signal picks experts; None for a signal that is no router.

    A classifier's argmax at the very end picks nothing that runs.
    """
    front, seen = [tensor], set[int]()
    while front:
        current = front.pop()
        if current in seen:
            continue
        seen.add(current)
        for consumer in flow.graph.consumers.get(current, ()):
            if word(consumer) in _CHOICES and any(
                flow.graph.consumers.get(out) for out in consumer.outputs
            ):
                return consumer
            if flow.step(consumer) in _TO_CHOICE and word(consumer) not in ("index", "gather"):
                front.extend(consumer.outputs[:1])
    return None
