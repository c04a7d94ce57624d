"""What a weight multiplies, and what that has been through since the last weight or activation."""

from collections.abc import Mapping

from fanin.graph.graph import Graph, Operation, TensorKind
from fanin.planning.subject import Circumstances, once_per_model

_OF_THE_MODEL = (TensorKind.PARAMETER, TensorKind.BUFFER)


@once_per_model
def operands(circumstances: Circumstances) -> Mapping[str, tuple[int, ...]]:
    """Parameter -> the signals that the first operation to use it reads beside it."""
    graph = circumstances.graph
    found: dict[str, tuple[int, ...]] = {}
    if graph is None:
        return found
    for operation in graph.operations:
        if not operation.outputs or graph.tensors[operation.outputs[0]].of_parameters:
            continue  # a view or a cast of a weight, or arithmetic on weights alone
        named = {n for t in operation.inputs for n in _names(graph, t)}
        new = [name for name in named if name not in found]
        if new:
            signals = tuple(t for t in operation.inputs if _is_signal(graph, t))
            found.update(dict.fromkeys(new, signals))
    return found


def _names(graph: Graph, tensor: int) -> tuple[str, ...]:
    info = graph.tensors[tensor]
    return (info.name,) if info.kind is TensorKind.PARAMETER else info.of_parameters


def _is_signal(graph: Graph, tensor: int) -> bool:
    info = graph.tensors[tensor]
    return info.kind not in _OF_THE_MODEL and not info.of_parameters


def path_from(source: str, name: str, circumstances: Circumstances) -> tuple[Operation, ...] | None:
    """What stands between two weights where all that the second reads comes from the first.

    None where anything else joins on the way: an input, or what another weight made of it.
    """
    graph = circumstances.graph
    if graph is None:
        return None
    found: dict[int, Operation] = {}
    waiting = list(operands(circumstances).get(name, ()))
    reached = False
    while waiting:
        tensor = waiting.pop()
        operation = graph.producer.get(tensor)
        if operation is None:
            if graph.tensors[tensor].kind is TensorKind.INPUT:
                return None
        elif any(source in _names(graph, t) for t in operation.inputs):
            reached = True
        elif operation.index not in found:
            found[operation.index] = operation
            waiting += [t for t in operation.inputs if _is_signal(graph, t)]
    return tuple(found.values()) if reached else None
