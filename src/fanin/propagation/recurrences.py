"""Loops in which one matrix, or the steps of one tensor, multiply the state again and again.

W meets Wh at the next step.  E‖Wᵏh‖² is not that of k strangers: it stays as it is for an
orthogonal W, grows with k²/n for a Gaussian one, and gates at every step know the state that they
multiply; backwards δ = Wᵀ D δ′ turns towards the large directions of the same W.  Such a loop is a
piece of the graph, from the first use of W to the last; it is run on samples whole, W drawn as
the plan draws it.  So are selective scans, where slices of one tensor multiply the state.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import prod

from fanin.graph.graph import Graph, Operation, TensorKind
from fanin.graph.vocabulary import COPIES, MERGES, PERMUTATIONS, RESHAPES, SLICES
from fanin.propagation.places import place_of

LEAST_USES = 3
"""Uses of one matrix, one behind the other, that make a loop."""
LEAST_STEPS = 4
"""Slices of one tensor, likewise: gates of one projection multiply twice or three times."""
MOST_RUNS, LEAST_RUNS = 128, 4
MOST_NUMBERS, MOST_AT_LEAST = 1 << 27, 1 << 29
"""Numbers that all runs of all loops read and write; the second for the fewest runs."""
_FARTHEST = 96
"""Operations that are run to find what the ways into a loop have in common."""

_MATRIX = frozenset({"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "convolution", "linear",
                     "mul", "mul_"})  # fmt: skip
_BY_SLICES = frozenset({"mul", "mul_", "bmm", "mm", "baddbmm"})
_VIEWS = RESHAPES | COPIES | SLICES | PERMUTATIONS | {"expand"}


@dataclass(frozen=True)
class Recurrences:
    """What is run on samples because it is a loop.

    Args:
        loops: operations (by index) whose results have the moments of their runs: those of the
            loops, and products of what enters them.
        around: operations that are run too, so that what enters the loops belongs together: views
            of weights, and what lies between the ways in and what they have in common.
        runs: how often.
        matrices: what makes them loops, for the reader: names of parameters.
        numbers: that one run reads and writes.
    """

    loops: frozenset[int] = frozenset()
    around: frozenset[int] = frozenset()
    runs: int = 0
    matrices: tuple[str, ...] = ()
    numbers: int = 0

    def __contains__(self, operation: Operation) -> bool:
        return self.runs > 0 and (operation.index in self.loops or operation.index in self.around)


def find_recurrences(graph: Graph, fixed: Collection[int]) -> Recurrences:
    """The loops of a graph and how often they can be run.

    Args:
        graph: what ran.
        fixed: tensors whose values are known or all alike: they make no loop.
    """
    loops: set[int] = set()
    matrices: dict[str, None] = {}
    done: set[tuple[int, ...]] = set()
    for (names, least), uses in _uses(graph, fixed).items():
        key = tuple(uses)
        if len(uses) < least or key in done:
            continue
        done.add(key)
        found = _between(graph, uses, least)
        loops |= found
        if found:
            matrices.update(dict.fromkeys(names))
    if not loops:
        return Recurrences()
    around = _around(graph, loops, fixed)
    joint = {k for k in around if _joins(graph, graph.operations[k], fixed)}
    loops, around = loops | joint, around - joint
    numbers = sum(_numbers(graph, graph.operations[k]) for k in loops | around)
    runs = min(MOST_RUNS, MOST_NUMBERS // numbers)
    if runs < LEAST_RUNS:
        runs = LEAST_RUNS if LEAST_RUNS * numbers <= MOST_AT_LEAST else 0
    return Recurrences(frozenset(loops), frozenset(around), runs, tuple(matrices), numbers)


def _joins(graph: Graph, operation: Operation, fixed: Collection[int]) -> bool:
    """Whether it makes one tensor of several, which may have something in common."""
    data = {t for t in operation.inputs if _is_data(graph, t, fixed)}
    return len(data) > 1 and operation.name not in MERGES


def _numbers(graph: Graph, operation: Operation) -> int:
    tensors = (*operation.inputs, *operation.outputs)
    return sum(prod(graph.tensors[t].shape) for t in tensors)


def _is_data(graph: Graph, tensor: int, fixed: Collection[int]) -> bool:
    info = graph.tensors[tensor]
    if info.of_parameters or tensor in fixed or info.kind not in _MADE:
        return False
    return info.dtype.startswith(("float", "bfloat"))


_MADE = (TensorKind.COMPUTED, TensorKind.INPUT)

_Key = tuple[tuple[str, ...], int]


def _uses(graph: Graph, fixed: Collection[int]) -> dict[_Key, list[int]]:
    """What multiplies data -> the operations in which it does."""
    found: dict[_Key, list[int]] = {}
    for operation in graph.operations:
        if operation.name not in _MATRIX or not operation.outputs:
            continue
        factors = operation.inputs[1:] if operation.name in ("addmm", "baddbmm", "addmv") else (
            operation.inputs[:2])  # fmt: skip
        data = [t for t in factors if _is_data(graph, t, fixed)]
        if not data:
            continue
        keys: dict[_Key, None] = {}
        for tensor in factors:
            owners = graph.tensors[tensor].of_parameters
            if owners and tensor not in fixed:
                keys[owners, LEAST_USES] = None
            elif tensor in data and len(data) > 1 and operation.name in _BY_SLICES:
                root = place_of(graph, tensor).root
                if root != tensor and _is_data(graph, root, fixed):
                    keys[(f"steps of tensor {root}",), LEAST_STEPS] = None
        for key in keys:
            found.setdefault(key, []).append(operation.index)
    return found


def _between(graph: Graph, uses: list[int], least: int) -> set[int]:
    """Operations on the ways from one use to a later one, uses included; none for short chains."""
    depth: dict[int, int] = {}
    deepest, which = 0, set(uses)
    span = graph.operations[uses[0] : uses[-1] + 1]
    for operation in span:
        own = max((depth.get(t, 0) for t in operation.inputs), default=0)
        own += operation.index in which
        if own:
            depth.update(dict.fromkeys(operation.outputs, own))
            deepest = max(deepest, own)
    if deepest < least:
        return set()
    found: set[int] = set()
    wanted: set[int] = set()
    for operation in reversed(span):
        leads = operation.index in which or not wanted.isdisjoint(operation.outputs)
        if leads and any(out in depth for out in operation.outputs):
            found.add(operation.index)
            wanted.update(t for t in operation.inputs if t in depth)
    return found


def _around(graph: Graph, loops: set[int], fixed: Collection[int]) -> set[int]:
    around: set[int] = set()
    for part in _parts(graph, loops):
        around |= _ways_in(graph, part, loops | around, fixed)
    front = [t for k in loops | around for t in graph.operations[k].inputs]
    while front:
        tensor = front.pop()
        maker = graph.producer.get(tensor)
        if maker is None or not graph.tensors[tensor].of_parameters:
            continue
        if maker.index not in loops and maker.index not in around:
            around.add(maker.index)
            front += maker.inputs
    return around


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
            if _is_data(graph, t, fixed)
            and (t not in graph.producer or graph.producer[t].index not in inside)
        }  # fmt: skip

    front = open_ends(t for k in part for t in graph.operations[k].inputs)
    views = _views_of(graph, front, inside, fixed)
    taken: set[int] = set()
    common: set[int] | None = set() if len(front) <= 1 else None
    limit = _FARTHEST + len(views)
    while front and len(taken) <= limit:
        makers = [graph.producer[t].index for t in front if t in graph.producer]
        if not makers:
            break
        operation = graph.operations[max(makers)]
        taken.add(operation.index)
        front -= set(operation.outputs)
        front |= open_ends(operation.inputs)
        if common is None and len(front) == 1:
            common = set(taken)
    if not front and len(taken) <= limit and _meets(graph, taken, inside):
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
        if maker.name in _VIEWS and _is_data(graph, maker.inputs[0], fixed):
            found.add(maker.index)
            front.append(maker.inputs[0])
    return found
