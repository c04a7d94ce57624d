"""Tensors without elements: a batch of no samples, an expert to which no token was sent.

Nothing has no moments: such a tensor counts as zeros on the way and is reported without numbers.
It receives and sends no gradient. No rule sees one, but for those of ``_PARTS``, which leave out
what has no elements.
"""

from collections.abc import Sequence

from fanin.graph.graph import Graph
from fanin.propagation.call import Call
from fanin.propagation.registry import Outcome, Pass
from fanin.propagation.sampling import sample_forward
from fanin.propagation.state import State, constant

_PARTS = ("cat", "concat", "concatenate", "updated")


def is_empty(graph: Graph, tensor: int) -> bool:
    """Whether a tensor has no elements."""
    return 0 in graph.tensors[tensor].shape


def reads_nothing(call: Call) -> bool:
    """Whether an operation reads a tensor without elements and has no rule for that."""
    return call.name not in _PARTS and any(is_empty(call.graph, t) for t in call.operation.inputs)


def made_of_nothing(call: Call) -> Outcome | None:
    """What an operation on nothing, or one that makes nothing, gives; None for all others.

    Sums over nothing are 0 and means of it are not defined, as PyTorch has it: the operation is
    run. What writes nothing into a tensor leaves it as it was.
    """
    outputs = call.operation.outputs
    if all(is_empty(call.graph, out) for out in outputs):
        if reads_nothing(call):
            call.parts.note("tensors without elements have no moments.")
        return [constant(call.shape(k), 0.0) for k in range(len(outputs))]
    if not reads_nothing(call):
        return None
    kept = _left_as_it_was(call)
    return sample_forward(call) if kept is None else call.states[kept]


def without_nothing(call: Call, outcomes: Sequence[State | None]) -> list[State | None]:
    """Outcomes of a rule; outputs without elements, such as pieces of a split, are zeros."""
    return [
        constant(call.shape(k), 0.0) if is_empty(call.graph, out) else state
        for k, (out, state) in enumerate(zip(call.operation.outputs, outcomes, strict=False))
    ]


def back_past_nothing(call: Call) -> list[Pass]:
    """Gradients behind an operation that reads nothing: the tensor that was left as it was."""
    kept = _left_as_it_was(call)
    return [] if kept is None else [Pass(kept, lambda pairs: pairs, 1.0)]


def _left_as_it_was(call: Call) -> int | None:
    first = call.tensor(0)
    if first is None or call.shape() != call.graph.tensors[first].shape:
        return None
    return None if "beta" in call.operation.kwargs else first
