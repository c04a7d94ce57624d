"""Where the numbers that an operation reads come from: one tensor's, read at several places.

Two edges of a graph with one end in common carry one node's number, and a softmax over the edges
of that node does not see it.  Samples of such tensors are therefore drawn where the places are
still apart, and brought to the operation through everything that lies between.
"""

from collections.abc import Mapping

import torch

from fanin.graph.graph import Graph, Operation
from fanin.graph.vocabulary import COPIES, RESHAPES
from fanin.propagation.call import Call, functional_name, resolve
from fanin.propagation.running import run_drawn
from fanin.propagation.state import State

MOST_STEPS = 24
MOST_ELEMENTS = 1 << 18
_GATHERS = frozenset({"index_select", "gather", "index"})
_TWINS = frozenset({"detach", "alias"})
"""The same numbers under another name: a maximum without gradient is subtracted from its own."""


def bring_along(call: Call, runs: int) -> None:
    """Samples of the inputs that are read at several places, and of all between there and here."""
    for tensor in dict.fromkeys(call.operation.inputs):
        if tensor in call.parts.samples:
            continue
        for operation in _trail(call.graph, call.states, tensor):
            if not _run_step(Call(call.graph, operation, call.states, call.parts), runs):
                break


def _run_step(call: Call, runs: int) -> bool:
    samples = call.parts.samples
    if any(out in samples for out in call.operation.outputs):
        return True
    found = run_drawn(call, runs)
    if found is None:
        return False
    drawn, (made, *_) = found
    if made is None:
        return False
    for tensor, value in drawn.varying.items():
        samples.setdefault(tensor, value)
    samples[call.operation.outputs[0]] = made
    return True


def _trail(graph: Graph, states: Mapping[int, State], tensor: int) -> list[Operation]:
    """Operations up to this tensor from those that it is gathered from; none where none is."""
    found: dict[int, Operation] = {}
    waiting, parted = [tensor], False
    while waiting and len(found) <= MOST_STEPS:
        operation = graph.producer.get(waiting.pop())
        if operation is None or operation.index in found or not _is_followed(graph, operation):
            continue
        if any(t not in states for t in operation.inputs):
            continue
        found[operation.index] = operation
        parted |= operation.name in _GATHERS | _TWINS
        if operation.name not in _GATHERS:
            waiting += [t for t in operation.inputs if states[t].known is None]
    return [found[k] for k in sorted(found)] if parted and len(found) <= MOST_STEPS else []


def _is_followed(graph: Graph, operation: Operation) -> bool:
    """One tensor from others that no weights made: pointwise, a view, or places of another."""
    if len(operation.outputs) != 1:
        return False
    infos = [graph.tensors[t] for t in (*operation.inputs, *operation.outputs)]
    if any(info.of_parameters or info.name for info in infos):
        return False
    if any(torch.Size(info.shape).numel() > MOST_ELEMENTS for info in infos):
        return False
    name = functional_name(operation.name)
    if name in _GATHERS or name in RESHAPES | COPIES:
        return True
    function = resolve(operation.name, operation.overload)
    return function is not None and torch.Tag.pointwise in function.tags
