"""Where the numbers that an operation reads come from: one tensor's, read at several places.

Two edges of a graph with one end in common carry one node's number, and a softmax over the edges
of that node does not see it.  Samples of such tensors are therefore drawn where the places are
still apart, and brought to the operation through everything that lies between.  So are running
sums: they only grow where their terms are positive.
"""

from collections.abc import Collection, Mapping

import torch

from fanin.graph.graph import Graph, Operation
from fanin.graph.vocabulary import COPIES, PERMUTATIONS, RESHAPES
from fanin.propagation.call import Call, functional_name, resolve
from fanin.propagation.running import run_drawn
from fanin.propagation.state import State

MOST_STEPS = 24
MOST_ELEMENTS = 1 << 18
_VIEWS = RESHAPES | COPIES | PERMUTATIONS
_PRODUCTS = frozenset({"convolution", "mm", "addmm"})
_FEW = 8
"""Features of which a random matrix makes some directions much stronger than others."""
_GATHERS = frozenset({"index_select", "gather", "index"})
_RUNNING = frozenset({"cumsum"})
_COMPARES = frozenset({"lt", "le", "gt", "ge"})
_TWINS = frozenset({"detach", "alias"})
"""The same numbers under another name: a maximum without gradient is subtracted from its own."""


def bring_along(call: Call, runs: int) -> None:
    """Samples of the inputs that are read at several places, and of all between there and here."""
    owned = [bool(call.graph.tensors[t].of_parameters) for t in call.operation.inputs]
    by_table = any(owned) and not all(owned)
    for tensor in dict.fromkeys(call.operation.inputs):
        if tensor in call.parts.samples:
            continue
        trail = _trail(call.graph, call.states, tensor)
        if by_table and not trail:
            trail = _shown(call.graph, call.states, tensor)
        for operation in trail:
            if not _run_step(Call(call.graph, operation, call.states, call.parts), runs):
                break


def orders_running_sums(call: Call) -> bool:
    """Whether positions are compared with running sums, such as those of durations.

    What such a comparison says of one sum it says of all that are larger: its answers are no
    strangers to each other, and which one a position belongs to is their difference.
    """
    if functional_name(call.operation.name) not in _COMPARES:
        return False
    trails = [_trail(call.graph, call.states, t) for t in dict.fromkeys(call.operation.inputs)]
    return any(operation.name in _RUNNING for trail in trails for operation in trail)


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
        if operation is None or operation.index in found or not is_followed(graph, operation):
            continue
        if any(t not in states for t in operation.inputs):
            continue
        found[operation.index] = operation
        parted |= operation.name in _GATHERS | _TWINS | _RUNNING
        if operation.name not in _GATHERS:
            waiting += [t for t in operation.inputs if states[t].known is None]
    return [found[k] for k in sorted(found)] if parted and len(found) <= MOST_STEPS else []


def _shown(graph: Graph, states: Mapping[int, State], tensor: int) -> list[Operation]:
    """Views up to a tensor that is compared with a table, from the tensor that they show.

    The entry that is chosen for it stands in the place of what they show, and is compared with
    that again. Where that was made of few numbers, its features are no strangers to each other: one
    direction of W x is strong in all rows, and the matrix is run as well.
    """
    found: list[Operation] = []
    while len(found) <= MOST_STEPS:
        operation = graph.producer.get(tensor)
        if operation is None or not operation.inputs or len(operation.outputs) != 1:
            break
        shown = operation.inputs[0]
        if operation.name in _PRODUCTS:
            data, weights = _factors(graph, operation)
            if data is None or states[data].known is not None or not _is_narrow(graph, weights):
                break
            shown = data
        elif operation.name not in _VIEWS or torch.Size(graph.tensors[shown].shape).numel() != (
            torch.Size(graph.tensors[tensor].shape).numel()
        ):
            break
        found.append(operation)
        tensor = shown
    return found[::-1]


def _factors(graph: Graph, operation: Operation) -> tuple[int | None, int]:
    """What a product reads and its weights; None where it reads no data."""
    data, weights = operation.inputs[:2]
    if operation.name == "addmm":
        data, weights = operation.inputs[1:3]
    plain = graph.tensors[weights].of_parameters and not graph.tensors[data].of_parameters
    return (data if plain else None), weights


def _is_narrow(graph: Graph, weights: int) -> bool:
    shape = graph.tensors[weights].shape
    return torch.Size(shape).numel() <= _FEW * max(shape[:2]) and max(shape[:2]) <= _FEW


def is_followed(graph: Graph, operation: Operation, also: Collection[str] = frozenset()) -> bool:
    """One tensor from others that no weights made: pointwise, a view, or places of another.

    Args:
        graph: what ran.
        operation: of it.
        also: names of other operations that are followed.
    """
    if len(operation.outputs) != 1:
        return False
    infos = [graph.tensors[t] for t in (*operation.inputs, *operation.outputs)]
    if any(info.of_parameters or info.name for info in infos):
        return False
    if any(torch.Size(info.shape).numel() > MOST_ELEMENTS for info in infos):
        return False
    name = functional_name(operation.name)
    if name in _GATHERS | _RUNNING or name in RESHAPES | COPIES or name in also:
        return True
    function = resolve(operation.name, operation.overload)
    return function is not None and torch.Tag.pointwise in function.tags
