"""Norms written out by hand: x divided by the root of its own mean square.

x · rsqrt(mean(x²) + ε), (x − mean)/√var and x/‖x‖ are norms however they are written: what comes
back to x through the statistic is no stranger to what comes back beside it, but takes off what lies
along x, and the mean, just as in a norm that runs as one operation.
"""

from dataclasses import dataclass

import numpy as np

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import Call, functional_name
from fanin.propagation.quadrature import Array, expectation
from fanin.propagation.state import State

_SUMS = {"mean", "sum"}
_LENGTHS = {"linalg_vector_norm", "norm"}
_SPREADS = {"var": 1, "std": 2}
_SQUARES = {"pow", "mul", "square"}
_PASSED = {"alias", "_to_copy", "clone", "expand", "contiguous"}
_MOST_STEPS = 12
_CONSTANT = 0.1
"""Relative spread of x's divisor over the root of its mean square: more is another function."""


@dataclass(frozen=True)
class WrittenNorm:
    """A norm in several operations.

    Args:
        source: the tensor that is normalised.
        numbers: the tensor that is divided: the source, or the source less its mean.
        squared: the tensor that the statistic squares.
        divisor: the tensor that it is divided or multiplied by.
        dims: axes that the statistics run over.
        centre: whether the mean is taken off.
        spread: relative variance of the mean square from row to row.
        inside: indices of the operations between source and division.
    """

    source: int
    numbers: int
    squared: int
    divisor: int
    dims: tuple[int, ...]
    centre: bool
    spread: float
    inside: frozenset[int]


def written_norm(call: Call) -> WrittenNorm | None:
    """The norm that this product or quotient ends; None where it ends none."""
    if call.name not in ("mul", "div") or not isinstance(call.raw(1), Ref):
        return None
    if call.name == "div" and isinstance(call.raw(2, "rounding_mode"), str):
        return None
    pair = call.tensor(0), call.tensor(1)
    for numbers, divisor in (pair,) if call.name == "div" else (pair, pair[::-1]):
        if numbers is None or divisor is None:
            continue
        found = _between(call, numbers, divisor)
        if found is not None and _is_closed(call, found):
            return found
    return None


def _between(call: Call, numbers: int, divisor: int) -> WrittenNorm | None:
    graph, states = call.graph, call.states
    shape = graph.tensors[numbers].shape
    if shape != call.shape() or not shape:
        return None
    steps = _back_to_sum(graph, divisor)
    if steps is None:
        return None
    reduced = steps[-1]
    statistic = states[reduced.outputs[0]]
    squares = _mean_square(statistic, reduced)
    if not _is_inverse_root(call, states[divisor], squares):
        return None
    level = expectation(squares)
    spread = expectation((squares - level) ** 2) / level**2
    dims = _reduced(call, reduced)
    if not dims or len(statistic.shape) != len(shape):
        return None
    inside = {step.index for step in steps}
    read = reduced.args[0].tensor
    if functional_name(reduced.name) in _SUMS:
        square = graph.producer.get(read)
        if square is None or not _is_square(square):
            return None
        inside.add(square.index)
        read = square.args[0].tensor
    centred = _centred(graph, numbers)
    if functional_name(reduced.name) in _SPREADS:
        if centred is None or read != centred[0]:
            return None
    elif read != numbers:
        same = _centred(graph, read)
        if same is None or centred is None or same[0] != centred[0]:
            return None
        inside |= {same[1].index, same[2].index}
    if centred is None or not _averages_over(call, centred[2], dims):
        return WrittenNorm(numbers, numbers, read, divisor, dims, False, spread, frozenset(inside))
    inside |= {centred[1].index, centred[2].index}
    return WrittenNorm(centred[0], numbers, read, divisor, dims, True, spread, frozenset(inside))


def _back_to_sum(graph: Graph, tensor: int) -> list[Operation] | None:
    """Operations from the divisor back to the sum that it is a function of."""
    steps: list[Operation] = []
    for _ in range(_MOST_STEPS):
        maker = graph.producer.get(tensor)
        if maker is None or len(maker.outputs) != 1:
            return None
        name = functional_name(maker.name)
        data = [t for t in dict.fromkeys(maker.inputs) if graph.producer.get(t) is not None]
        steps.append(maker)
        if name in _SUMS | _LENGTHS | _SPREADS.keys():
            return steps if isinstance(maker.args[0], Ref) else None
        if len(data) != 1 or (graph.tensors[tensor].shape != graph.tensors[data[0]].shape
                              and name not in _PASSED):  # fmt: skip
            return None
        tensor = data[0]
    return None


def _is_square(operation: Operation) -> bool:
    name = functional_name(operation.name)
    first = operation.args[0] if operation.args else None
    if name not in _SQUARES or not isinstance(first, Ref) or len(operation.outputs) != 1:
        return False
    second = operation.args[1] if len(operation.args) > 1 else None
    if name == "pow":
        return second in (2, 2.0)
    return name == "square" or (isinstance(second, Ref) and second.tensor == first.tensor)


def _centred(graph: Graph, tensor: int) -> tuple[int, Operation, Operation] | None:
    """The tensor that this one is less its mean, with the subtraction and the mean."""
    maker = graph.producer.get(tensor)
    if maker is None or functional_name(maker.name) != "sub" or maker.kwargs:
        return None
    refs = [a.tensor for a in maker.args[:2] if isinstance(a, Ref)]
    mean = graph.producer.get(refs[1]) if len(refs) == 2 else None
    if mean is None or functional_name(mean.name) != "mean" or mean.args[0] != maker.args[0]:
        return None
    return refs[0], maker, mean


def _averages_over(call: Call, mean: Operation, dims: tuple[int, ...]) -> bool:
    return _reduced(call, mean) == dims


def _reduced(call: Call, operation: Operation) -> tuple[int, ...]:
    """Axes that a sum runs over, whose lengths are 1 behind it."""
    given = call.graph.tensors[operation.args[0].tensor].shape
    made = call.graph.tensors[operation.outputs[0]].shape
    if len(given) != len(made):
        return ()
    return tuple(d for d, (n, m) in enumerate(zip(given, made, strict=True)) if n != m)


def _mean_square(statistic: State, reduced: Operation) -> Array:
    """The mean or sum of squares on the nodes of the statistic's base."""
    values = statistic.values
    return values**2 if functional_name(reduced.name) in (*_LENGTHS, "std") else values


def _is_inverse_root(call: Call, divisor: State, squares: Array) -> bool:
    """Whether x is divided by the root of the statistic, ε aside."""
    by = divisor.values
    if by.shape != squares.shape or float(by.min()) <= 0.0 or float(squares.min()) <= 0.0:
        return False
    constant = squares / by**2 if call.name == "div" else squares * by**2
    mean = expectation(constant)
    spread = expectation((constant - mean) ** 2)
    return bool(np.isfinite(mean) and mean > 0 and spread <= (_CONSTANT * mean) ** 2)


def _is_closed(call: Call, found: WrittenNorm) -> bool:
    """Whether nothing else reads what stands between."""
    graph, readers = call.graph, found.inside | {call.operation.index}
    operations = (graph.operations[k] for k in found.inside)
    made = [out for operation in operations for out in operation.outputs]
    return all(r.index in readers for out in made for r in graph.consumers.get(out, ()))
