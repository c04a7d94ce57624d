"""Loops in which one matrix, or the steps of one tensor, multiply the state again and again.

W meets Wh at the next step.  E‖Wᵏh‖² is not that of k strangers: it stays as it is for an
orthogonal W, grows with k²/n for a Gaussian one, and gates at every step know the state that they
multiply; backwards δ = Wᵀ D δ′ turns towards the large directions of the same W.  Such a loop is a
piece of the graph, from the first use of W to the last; it is run on samples whole, W drawn as
the plan draws it.  So are selective scans, where slices of one tensor multiply the state.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod

from fanin.graph.graph import Graph, Operation
from fanin.graph.vocabulary import MERGES
from fanin.propagation.decays import decaying
from fanin.propagation.places import place_of
from fanin.propagation.ways_in import VIEWS, around, is_data

LEAST_USES = 3
"""Uses of one matrix, one behind the other, that make a loop."""
LEAST_STEPS = 4
"""Slices of one tensor, likewise: gates of one projection multiply twice or three times."""
MOST_RUNS = 128
MOST_NUMBERS, MOST_AT_ONCE = 1 << 27, 1 << 28
"""Numbers that all runs of all loops read and write, and those of a single run."""
_WEIGHT = 8
"""A weight is multiplied and forgotten, in an eighth of the time of a number that is made."""

_MATRIX = frozenset({"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "convolution", "linear",
                     "mul", "mul_"})  # fmt: skip
_BY_SLICES = frozenset({"mul", "mul_", "bmm", "mm", "baddbmm"})


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
    fixed = _with_what_they_make(graph, fixed)
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
    sums = decaying(graph, fixed)
    if sums:
        matrices["exponentials of running sums"] = None
    loops |= sums
    for operation in graph.operations:
        if _is_whole(operation):
            loops.add(operation.index)
            owners = [graph.tensors[t].of_parameters for t in operation.inputs]
            matrices.update(dict.fromkeys(name for names in owners for name in names))
    if not loops or any(0 in graph.tensors[t].shape
                        for k in loops for t in graph.operations[k].inputs):  # fmt: skip
        return Recurrences()
    ways = around(graph, loops, fixed)
    joint = {k for k in ways if _joins(graph, graph.operations[k], fixed)}
    loops, ways = loops | joint, ways - joint
    numbers = sum(_numbers(graph, graph.operations[k]) for k in loops | ways)
    # Wide tensors are their own average: one run of them says enough.
    runs = min(MOST_RUNS, max(MOST_NUMBERS // numbers, int(numbers <= MOST_AT_ONCE)))
    return Recurrences(frozenset(loops), frozenset(ways), runs, tuple(matrices), numbers)


def _with_what_they_make(graph: Graph, fixed: Collection[int]) -> set[int]:
    """These tensors, and what is computed from fixed parameters alone."""
    names = {graph.tensors[t].name for t in fixed if t in graph.tensors}
    made = {t for t, info in graph.tensors.items()
            if info.of_parameters and names.issuperset(info.of_parameters)}  # fmt: skip
    return {*fixed, *made}


def _is_whole(operation: Operation) -> bool:
    """Whether it runs a layer over all steps at once: ``mkldnn_rnn_layer``, ``lstm``, ``gru``."""
    return "rnn" in operation.name or operation.name in ("lstm", "gru", "quantized_lstm")


def _joins(graph: Graph, operation: Operation, fixed: Collection[int]) -> bool:
    """Whether it makes one tensor of several, which may have something in common."""
    data = {t for t in operation.inputs if is_data(graph, t, fixed)}
    return len(data) > 1 and operation.name not in MERGES


def _numbers(graph: Graph, operation: Operation) -> int:
    """Numbers that an operation reads and makes; what it makes is measured and kept, too."""
    made = sum(prod(graph.tensors[t].shape) for t in operation.outputs)
    if operation.name in VIEWS:
        return made
    sizes = [(prod(graph.tensors[t].shape), graph.tensors[t].of_parameters)
             for t in operation.inputs]  # fmt: skip
    steps = max(graph.tensors[operation.inputs[0]].shape[:2]) if _is_whole(operation) else 1
    return made + sum(size * steps // _WEIGHT if owners else size for size, owners in sizes)


_Key = tuple[tuple[str, ...], int]


def _uses(graph: Graph, fixed: Collection[int]) -> dict[_Key, list[int]]:
    """What multiplies data -> the operations in which it does."""
    found: dict[_Key, list[int]] = {}
    for operation in graph.operations:
        if operation.name not in _MATRIX or not operation.outputs:
            continue
        factors = operation.inputs[1:] if operation.name in ("addmm", "baddbmm", "addmv") else (
            operation.inputs[:2])  # fmt: skip
        data = [t for t in factors if is_data(graph, t, fixed)]
        if not data:
            continue
        keys: dict[_Key, None] = {}
        for tensor in factors:
            owners = graph.tensors[tensor].of_parameters
            if owners and tensor not in fixed:
                keys[owners, LEAST_USES] = None
            elif tensor in data and len(data) > 1 and operation.name in _BY_SLICES:
                root = place_of(graph, tensor).root
                if root != tensor and is_data(graph, root, fixed):
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
