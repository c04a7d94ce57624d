"""What stands in a residual branch between the stream that it reads and the sum that it joins."""

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation, TensorKind
from fanin.graph.patterns.ending import ends_in_output
from fanin.graph.patterns.residual_streams import ResidualAdd
from fanin.graph.role import Branch
from fanin.graph.structure import argument
from fanin.graph.use import Part
from fanin.graph.vocabulary import NORMS, REDUCTIONS, word

_STANDARDISING = NORMS | REDUCTIONS
"""What divides a weight by its own size: scaled weight standardisation."""

_PLAIN = frozenset((Step.WEIGHT, Step.MOVE, Step.SCALE, Step.BEND, Step.POOL, Step.ADD))
_ATTENTION = frozenset((Step.ATTENTION, Step.SOFTMAX, Step.CONTRACT))
_MESSAGES = frozenset(("index", "index_select", "gather", "take", "take_along_dim"))
"""Moves by which a node reads its neighbours."""

_MULTIPLIES = {"mul", "multiply", "mul_scalar"}
_DIVIDES = {"div", "divide", "true_divide"}


def read_branches(flow: Flow, adds: list[ResidualAdd]) -> Mapping[str, Branch]:
    """Where each weight stands in its residual branch; of several, in the innermost.

    Args:
        flow: the signals.
        adds: every residual sum.
    """
    by_result = {add.operation.outputs[0]: add for add in adds}
    inside = [_between(flow, add) for add in adds]
    enclosed = [
        {
            other.operation.index
            for operation in operations
            for out in operation.outputs
            if (other := by_result.get(out)) is not None and other is not add
        }
        for add, operations in zip(adds, inside, strict=True)
    ]
    nested = set[int]().union(*enclosed)
    normed = {
        add.chain
        for add, operations in zip(adds, inside, strict=True)
        if add.normed_stream or any(_normalises(flow, operation) for operation in operations)
    }
    held: dict[int, list[Operation]] = {}
    for add, operations in zip(adds, inside, strict=True):
        held.setdefault(add.chain, []).extend(
            operation for operation in operations if not _is_plain(flow, operation)
        )
    attending = {
        chain
        for chain, others in held.items()
        if others and all(flow.step(operation) in _ATTENTION for operation in others)
    }
    found: dict[str, tuple[int, Branch]] = {}
    for add, operations, others in zip(adds, inside, enclosed, strict=True):
        places = _places(flow, operations)
        branch = replace(
            _end(flow, add),
            layers=max(places.values(), default=0),
            plain=not held[add.chain],
            attends=add.chain in attending,
            normed=add.chain in normed,
            nested=add.operation.index in nested,
            encloses=bool(others),
            ends=ends_in_output(flow, add.operation.outputs[0]),
        )
        for operation in operations:
            for use in flow.weights_at(operation):
                known = found.get(use.parameter)
                if use.part is not Part.WEIGHT or (known is not None and add.start < known[0]):
                    continue
                placed = replace(branch, place=places[operation.index])
                found[use.parameter] = add.start, placed
    return {name: branch for name, (_, branch) in found.items()}


def _between(flow: Flow, add: ResidualAdd) -> list[Operation]:
    """The operations from the stream to the end of the branch, in order of running."""
    first = flow.made_by(add.start)
    oldest = first.index if first is not None else -1
    found: dict[int, Operation] = {}
    front, seen = [add.branch], {add.start}
    while front:
        tensor = front.pop()
        maker = flow.made_by(tensor)
        if tensor in seen or maker is None or maker.index <= oldest:
            continue
        seen.add(tensor)
        found[maker.index] = maker
        front.extend(flow.sources(maker))
    return [found[index] for index in sorted(found)]


def _places(flow: Flow, operations: list[Operation]) -> dict[int, int]:
    """Operation -> weight layers on the longest path to it within the branch, itself included."""
    behind: dict[int, int] = {}
    places: dict[int, int] = {}
    for operation in operations:
        deepest = max((behind.get(t, 0) for t in flow.sources(operation)), default=0)
        weights = [use for use in flow.weights_at(operation) if use.part is Part.WEIGHT]
        places[operation.index] = deepest + bool(weights)
        for out in operation.outputs:
            behind[out] = places[operation.index]
    return places


def _is_plain(flow: Flow, operation: Operation) -> bool:
    """Whether an operation is a layer, an activation or a move that keeps places apart."""
    return flow.step(operation) in _PLAIN and word(operation) not in _MESSAGES


def _normalises(flow: Flow, operation: Operation) -> bool:
    """Whether a norm stands here, or a weight that its own size divides."""
    if flow.step(operation) is Step.NORM:
        return True
    return any(_is_standardised(flow, use.operand) for use in flow.weights_at(operation))


def _is_standardised(flow: Flow, operand: int) -> bool:
    """Whether statistics of a weight took part in making it what is multiplied."""
    front, seen = [operand], set[int]()
    while front:
        tensor = front.pop()
        maker = flow.made_by(tensor)
        if tensor in seen or maker is None:
            continue
        seen.add(tensor)
        if word(maker) in _STANDARDISING:
            return True
        front.extend(t for t in maker.inputs if flow.reading.is_weight(t))
    return False


def _end(flow: Flow, add: ResidualAdd) -> Branch:
    """What the result of the branch's last weight goes through on its way to the sum."""
    constant = float(argument(add.operation, 2, "alpha", 1.0)) if _alpha_scales(add) else 1.0
    factors: list[str] = []
    gated = bent = False
    front, seen = [add.branch], {add.start}
    while front:
        tensor = front.pop()
        maker = flow.made_by(tensor)
        if tensor in seen or maker is None:
            continue
        seen.add(tensor)
        step = flow.step(maker)
        gated = gated or step is Step.MULTIPLY
        if step not in (Step.MOVE, Step.SCALE, Step.BEND):
            continue
        bent = bent or step is Step.BEND
        factors += _factors(flow, maker)
        constant *= _constant(maker)
        front.extend(flow.sources(maker))
    return Branch(constant=constant, factors=tuple(factors), gated=gated, bent=bent)


def _alpha_scales(add: ResidualAdd) -> bool:
    """Whether the sum itself multiplies the branch, as ``torch.add(x, f, alpha=0.1)`` does."""
    operation = add.operation
    return word(operation) == "add" and operation.inputs[-1:] == (add.branch,)


def _factors(flow: Flow, operation: Operation) -> list[str]:
    """Parameters and buffers that multiply a signal here."""
    uses = flow.reading.uses_at.get(operation.index, ())
    found = [use.parameter for use in uses if use.part is Part.FACTOR]
    if word(operation) in _MULTIPLIES | _DIVIDES:
        tensors = flow.graph.tensors
        found += [tensors[t].name for t in operation.inputs if tensors[t].kind is TensorKind.BUFFER]
    return found


def _constant(operation: Operation) -> float:
    """The number that an operation multiplies its only tensor by; 1 for every other operation."""
    name = word(operation)
    if name not in _MULTIPLIES | _DIVIDES or len(operation.inputs) != 1:
        return 1.0
    numbers = [a for a in operation.args[:2] if isinstance(a, Real) and not isinstance(a, bool)]
    if len(numbers) != 1 or not float(numbers[0]):
        return 1.0
    return abs(float(numbers[0]) if name in _MULTIPLIES else 1 / float(numbers[0]))
