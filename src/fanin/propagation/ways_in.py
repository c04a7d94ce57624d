"""What enters a loop, back to what it has in common.

Gates, decays and inputs of a step are made of the same numbers, and inputs of two steps of the
same weights.  Drawn as strangers they would not be what the loop multiplies; drawn where they part
and brought to the loop, they are.
"""

from collections.abc import Collection, Iterable, Iterator

from fanin.graph.graph import Graph, TensorKind
from fanin.graph.vocabulary import COPIES, PERMUTATIONS, RESHAPES, SLICES

_FARTHEST = 96
"""Operations, views aside, that are run to find what the ways into a loop have in common."""
VIEWS = RESHAPES | COPIES | SLICES | PERMUTATIONS | {"expand"}
_MADE = (TensorKind.COMPUTED, TensorKind.INPUT)


def is_data(graph: Graph, tensor: int, fixed: Collection[int]) -> bool:
    """Whether a tensor holds real numbers that the batch has entered."""
    info = graph.tensors[tensor]
    if info.of_parameters or tensor in fixed or info.kind not in _MADE:
        return False
    return info.dtype.startswith(("float", "bfloat"))


def around(graph: Graph, loops: set[int], fixed: Collection[int]) -> set[int]:
    """Operations (by index) to be run for the loops: ways in, and views of their weights.

    Args:
        graph: what ran.
        loops: operations of all loops.
        fixed: tensors whose values are known or all alike.
    """
    found: set[int] = set()
    for part in _parts(graph, loops):
        found |= _ways_in(graph, part, loops | found, fixed)
    front = [t for k in loops | found for t in graph.operations[k].inputs]
    while front:
        tensor = front.pop()
        maker = graph.producer.get(tensor)
        if maker is None or not graph.tensors[tensor].of_parameters:
            continue
        if maker.index not in loops and maker.index not in found:
            found.add(maker.index)
            front += maker.inputs
    return found


def _parts(graph: Graph, loops: set[int]) -> Iterator[list[int]]:
    """The loops one by one: operations that hand tensors to each other."""
    group: dict[int, int] = {}

    def top(k: int) -> int:
        while group[k] != k:
            group[k] = group[group[k]]
            k = group[k]
        return k

    for k in sorted(loops):
        group[k] = k
        for tensor in graph.operations[k].inputs:
            maker = graph.producer.get(tensor)
            if maker is not None and maker.index in group:
                group[top(maker.index)] = top(k)
    parts: dict[int, list[int]] = {}
    for k in sorted(loops):
        parts.setdefault(top(k), []).append(k)
    yield from parts.values()


def _ways_in(
    graph: Graph, part: Iterable[int], inside: set[int], fixed: Collection[int]
) -> set[int]:
    """Operations from what the ways into one loop have in common to the loop.

    What is nearest is tried first: one tensor from which all ways start.  If other loops make all
    that enters, the way from them is run as well.
    """

    def open_ends(tensors: Iterable[int]) -> set[int]:
        return {
            t for t in tensors
            if is_data(graph, t, fixed)
            and (t not in graph.producer or graph.producer[t].index not in inside)
        }  # fmt: skip

    front = open_ends(t for k in part for t in graph.operations[k].inputs)
    views = _views_of(graph, front, inside, fixed)
    taken: set[int] = set()
    common: set[int] | None = set() if len(front) <= 1 else None
    walked = 0
    while front and walked <= _FARTHEST:
        makers = [graph.producer[t].index for t in front if t in graph.producer]
        if not makers:
            break
        operation = graph.operations[max(makers)]
        taken.add(operation.index)
        walked += operation.name not in VIEWS
        front -= set(operation.outputs)
        front |= open_ends(operation.inputs)
        if common is None and len(front) == 1:
            common = set(taken)
    if not front and walked <= _FARTHEST and _meets(graph, taken, inside):
        return taken
    return views if common is None else common | views


def _meets(graph: Graph, taken: set[int], inside: set[int]) -> bool:
    makers = (graph.producer.get(t) for k in taken for t in graph.operations[k].inputs)
    return any(maker is not None and maker.index in inside for maker in makers)


def _views_of(
    graph: Graph, tensors: Iterable[int], inside: set[int], fixed: Collection[int]
) -> set[int]:
    """The views through which these tensors show others."""
    found: set[int] = set()
    front = list(tensors)
    while front:
        maker = graph.producer.get(front.pop())
        if maker is None or maker.index in inside or maker.index in found:
            continue
        if maker.name in VIEWS and is_data(graph, maker.inputs[0], fixed):
            found.add(maker.index)
            front.append(maker.inputs[0])
    return found
