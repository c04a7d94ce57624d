"""What a modulation does at zero: let the stream pass, close a residual branch, or shut a path."""

from collections.abc import Collection
from numbers import Real

from fanin.graph.activations import named
from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.patterns.residual_streams import ResidualAdd
from fanin.graph.use import Part, Use
from fanin.graph.vocabulary import word

_NOUGHT_AT_NOUGHT = frozenset(("tanh", "silu", "gelu", "softsign"))
"""Activations that give 0 for 0 and have a slope there."""


def neutral_at_zero(
    flow: Flow, use: Use, ends: Collection[int], adds: Collection[ResidualAdd]
) -> bool:
    """Whether a weight may be zero that scales, shifts and gates another stream.

    At zero each of its products must leave the other side as it is, 1 having been added (adaLN),
    or close a residual branch.  No weight may read its result: that one would see zeros too.

    Args:
        flow: the signals.
        use: of the weight.
        ends: tensors at the end of a residual branch.
        adds: every residual sum.
    """
    sums = {add.operation.index for add in adds}
    front, seen = [(use.result, False)], set[tuple[int, bool]]()
    multiplies = False
    while front:
        state = front.pop()
        if state in seen:
            continue
        seen.add(state)
        tensor, offset = state
        for operation in flow.graph.consumers.get(tensor, ()):
            step, out = flow.step(operation), operation.outputs[:1]
            if step is Step.MULTIPLY or word(operation) == "addcmul":
                multiplies = True
                if not (offset or operation.index in sums or set(out) & set(ends)):
                    return False
            elif step in (Step.MOVE, Step.SCALE):
                front.extend((t, offset or _adds(flow, operation)) for t in operation.outputs)
            elif step is Step.BEND:
                away = named(flow.regions, out[0]).name not in _NOUGHT_AT_NOUGHT
                front.append((out[0], offset or away))
            elif step not in (Step.ADD, Step.NONE):
                return False
    return multiplies


def _adds(flow: Flow, operation: Operation) -> bool:
    """Whether a constant or a parameter is added to a signal."""
    if word(operation) not in ("add", "sub", "rsub"):
        return False
    uses = flow.reading.uses_at.get(operation.index, ())
    if any(use.part in (Part.TERM, Part.TOKEN) for use in uses):
        return True
    numbers = operation.args[:2]
    return any(isinstance(n, Real) and not isinstance(n, bool) and bool(n) for n in numbers)
