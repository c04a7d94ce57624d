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


def ends_in_output(flow: Flow, tensor: int) -> bool:
    """Whether a signal goes to the model's outputs (or a loss) and nowhere else."""
    front, seen, reached = [tensor], set[int](), False
    while front:
        current = front.pop()
        if current in seen:
            continue
        seen.add(current)
        reached = reached or current in flow.graph.outputs
        for consumer in flow.graph.consumers.get(current, ()):
            if flow.step(consumer) not in _TO_OUTPUT:
                return False
            front.extend(consumer.outputs)
    return reached


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
