"""Products of two signals: gated MLPs, gates, modulation of a normalised stream."""

from dataclasses import dataclass, field

from fanin.graph.activations import named
from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.patterns.channels import Runs, channels_at, count, rows
from fanin.graph.structure import argument
from fanin.graph.use import Use
from fanin.graph.vocabulary import word

_SIDE = frozenset((Step.MOVE, Step.SCALE, Step.BEND, Step.SOFTMAX))
_STRAIGHT = frozenset((Step.MOVE, Step.SCALE))
_DOWN = frozenset((Step.MOVE, Step.SCALE, Step.NORM))


@dataclass
class Gating:
    """What products of signals make of the weights before and behind them."""

    gates: dict[str, Operation] = field(default_factory=dict)
    ups: dict[str, Operation] = field(default_factory=dict)
    downs: dict[str, Operation] = field(default_factory=dict)
    modulations: dict[str, Operation] = field(default_factory=dict)
    packed: dict[str, list[tuple[str, Runs]]] = field(default_factory=dict)
    """Parameter -> its pieces, for a gate and an up projection in one matrix."""


@dataclass
class _Side:
    uses: list[Use]
    complete: bool
    bent: bool
    normed: bool


def find_gating(flow: Flow) -> Gating:
    """Every product of two signals, read for what it makes of the weights around it."""
    found = Gating()
    for operation in flow.graph.operations:
        if flow.step(operation) is not Step.MULTIPLY:
            continue
        sources = flow.sources(operation)
        if word(operation) == "glu":
            _glu(flow, operation, sources[0], found)
        elif len(sources) == 2:
            _product(flow, operation, sources[0], sources[1], found)
    return found


def _side(flow: Flow, tensor: int) -> _Side:
    uses, complete = flow.weights_behind(tensor, _SIDE)
    met = flow.back(tensor, lambda _, step: step in _STRAIGHT)
    normed = any(m is not None and flow.step(m) is Step.NORM for _, m in met)
    return _Side([u for u in uses if u.source is not None], complete, _bent(flow, tensor), normed)


def _bent(flow: Flow, tensor: int) -> bool:
    """Whether every way back to a weight leads through a nonlinearity."""
    met = flow.back(
        tensor, lambda op, step: step in _STRAIGHT or (step is Step.BEND and _wide_clamp(op))
    )
    return not any(maker is not None and flow.step(maker) is Step.WEIGHT for _, maker in met)


_HARDLY_MET = 4.0
"""Bounds beyond four standard deviations of a unit normal: 6 values of 100 000 meet them."""


def _wide_clamp(operation: Operation) -> bool:
    """A guard against outliers on both sides, linear for whatever a good start gives."""
    low, high = argument(operation, 1, "min"), argument(operation, 2, "max")
    return (
        word(operation) in ("clamp", "hardtanh", "clip")
        and isinstance(low, int | float)
        and isinstance(high, int | float)
        and low <= -_HARDLY_MET
        and high >= _HARDLY_MET
    )


def _product(flow: Flow, operation: Operation, left: int, right: int, found: Gating) -> None:
    sides = [_side(flow, left), _side(flow, right)]
    tensors = [left, right]
    both = all(side.uses and side.complete for side in sides)
    if both and sides[0].bent != sides[1].bent and _read_the_same(flow, *sides):
        gate, up = (0, 1) if sides[0].bent else (1, 0)
        _gated(flow, operation, (sides[gate], tensors[gate]), (sides[up], tensors[up]), found)
        return
    for place, side in enumerate(sides):
        other = sides[1 - place]
        if not side.uses or not side.complete or other.bent is False:
            continue
        whole = all(_covers(flow, use, tensors[place]) for use in side.uses)
        for use in side.uses:
            if side.bent and whole and _opens_and_shuts(flow, tensors[place]):
                found.gates.setdefault(use.parameter, operation)
            elif not side.bent and other.normed and not both:
                found.modulations.setdefault(use.parameter, operation)


def _gated(
    flow: Flow,
    operation: Operation,
    gate: tuple[_Side, int],
    up: tuple[_Side, int],
    found: Gating,
) -> None:
    gate_names = {use.parameter for use in gate[0].uses}
    up_names = {use.parameter for use in up[0].uses}
    for use in [*gate[0].uses, *up[0].uses]:
        if use.parameter in gate_names & up_names:
            pieces = found.packed.setdefault(use.parameter, [])
            for name, tensor in (("gate", gate[1]), ("up", up[1])):
                piece = (name, rows(use, channels_at(flow, use, tensor)))
                if piece[1] and piece not in pieces:
                    pieces.append(piece)
            found.gates.setdefault(use.parameter, operation)
        elif use.parameter in gate_names:
            found.gates.setdefault(use.parameter, operation)
        else:
            found.ups.setdefault(use.parameter, operation)
    _mark_down(flow, operation, found)


def _glu(flow: Flow, operation: Operation, source: int, found: Gating) -> None:
    """``glu`` splits its input in two: the first half is multiplied by the second's sigmoid."""
    uses, complete = flow.weights_behind(source, _STRAIGHT | {Step.NORM})
    for use in uses:
        if not complete or use.source is None:
            continue
        covered = rows(use, channels_at(flow, use, source))
        if len(covered) == 1 and covered[0][1] % 2 == 0:
            start, size = covered[0]
            half = size // 2
            halves = [("up", [(start, half)]), ("gate", [(start + half, half)])]
            found.packed.setdefault(use.parameter, halves)
        found.gates.setdefault(use.parameter, operation)
    _mark_down(flow, operation, found)


def _mark_down(flow: Flow, operation: Operation, found: Gating) -> None:
    front, seen = list(operation.outputs[:1]), set[int]()
    while front:
        current = front.pop()
        for consumer in flow.graph.consumers.get(current, ()):
            if consumer.index in seen:
                continue
            seen.add(consumer.index)
            step = flow.step(consumer)
            if step is Step.WEIGHT:
                for use in flow.weights_at(consumer):
                    if use.source is not None:
                        found.downs.setdefault(use.parameter, operation)
            elif step in _DOWN:
                front.extend(consumer.outputs[:1])


def _read_the_same(flow: Flow, first: _Side, second: _Side) -> bool:
    """Whether two sides come from weights that read one signal."""

    def roots(side: _Side) -> set[int]:
        return {
            tensor
            for use in side.uses
            if use.source is not None
            for tensor, _ in flow.back(use.source, lambda _, step: step in _STRAIGHT)
        }

    return bool(roots(first) & roots(second))


_BOUNDED = frozenset(("sigmoid", "hardsigmoid", "tanh", "softmax", "hardtanh"))


def _opens_and_shuts(flow: Flow, tensor: int) -> bool:
    """Whether a side is squashed between bounds, as the opening of a gate is."""
    for current, maker in flow.back(tensor, lambda _, step: step in _STRAIGHT):
        if current in flow.regions.curved and named(flow.regions, current).name in _BOUNDED:
            return True
        if maker is not None and flow.step(maker) is Step.SOFTMAX:
            return True
    return False


def _covers(flow: Flow, use: Use, tensor: int) -> bool:
    if use.axes is None or not use.axes.outputs:
        return True
    size = flow.graph.parameters[use.parameter].shape[use.axes.outputs[0]]
    return count(channels_at(flow, use, tensor)) in (0, size)
