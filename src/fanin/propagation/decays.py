"""Linear attention and state spaces in chunks: exponentials of running sums weigh the steps.

What a recurrence with decay e^a does step by step, its chunked form does at once: e^(Σ a) between
any two steps of a chunk, times products of what was read and written there.  The sums of one tensor
are subtracted from each other, and decays, keys and values know each other as in the loop itself.
Such a piece goes from the running sum to the next matrix of weights.
"""

from collections.abc import Collection

from fanin.graph.graph import Graph, Operation
from fanin.graph.vocabulary import MAKERS
from fanin.propagation.ways_in import VIEWS, is_data

_SUMS = frozenset({"cumsum", "cumprod"})
_ON_THE_WAY = VIEWS | {"sub", "rsub", "add", "neg", "mul", "masked_fill", "where", "tril", "clamp",
                       "cumsum", "constant_pad_nd"}  # fmt: skip
_NEAR = 12
"""Operations between a running sum and the exponential of it."""


def decaying(graph: Graph, fixed: Collection[int]) -> set[int]:
    """Operations (by index) of all pieces that begin with a running sum in an exponent."""
    found: set[int] = set()
    reached: set[int] = set()
    for operation in graph.operations:
        name = _plain(operation)
        starts = name in _SUMS and any(is_data(graph, t, fixed) for t in operation.inputs)
        starts = starts and (name == "cumprod" or _is_raised(graph, operation))
        if starts or (_goes_on(graph, operation, fixed) and not reached.isdisjoint(
                operation.inputs)):  # fmt: skip
            found.add(operation.index)
            reached.update(operation.outputs)
    return found


def _plain(operation: Operation) -> str:
    return operation.name.removesuffix("_")


def _is_raised(graph: Graph, operation: Operation) -> bool:
    """Whether an exponential is taken of the sums, or of differences of them."""
    front, seen = list(operation.outputs), set[int]()
    for _ in range(_NEAR):
        following = {op.index: op for t in front for op in graph.consumers.get(t, ())
                     if op.index not in seen}  # fmt: skip
        names = {_plain(op) for op in following.values()}
        if names & {"exp", "exp2"}:
            return True
        seen |= set(following)
        front = [out for op in following.values() if _plain(op) in _ON_THE_WAY
                 for out in op.outputs]  # fmt: skip
    return False


def _goes_on(graph: Graph, operation: Operation, fixed: Collection[int]) -> bool:
    """Whether an operation meets no weights but fixed ones."""
    if operation.name in MAKERS:
        return False
    return all(not graph.tensors[t].of_parameters or t in fixed for t in operation.inputs)
