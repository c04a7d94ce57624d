"""How large the logits of an attention are where its queries and keys have unit variance."""

import math
from collections.abc import Callable
from numbers import Real

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation, Ref
from fanin.graph.reading import AttentionCore
from fanin.graph.structure import argument
from fanin.graph.uses import attention
from fanin.graph.uses.contraction import factors
from fanin.graph.vocabulary import word

_ON_THE_WAY = frozenset((Step.MOVE, Step.SCALE, Step.ADD, Step.MERGE, Step.BEND))


def logit_std(
    flow: Flow, core: AttentionCore, passes: Callable[[Operation, Step], bool]
) -> float | None:
    """√d times every constant factor between the projections and the softmax.

    Args:
        flow: the signals.
        core: one attention.
        passes: what may stand between a projection and q or k.

    Returns:
        None where a norm fixes the size of q or k, where a factor is a tensor, whose value the
        graph does not hold, and where no softmax reads the product.
    """
    scaling: list[float | None] = []
    for tensor in (core.query, core.key):
        for _, maker in flow.back(tensor, passes):
            if maker is not None and flow.step(maker) is Step.NORM:
                return None
            if maker is not None and flow.step(maker) is Step.SCALE:
                scaling.append(_factor(flow, maker))
    size = flow.reading.shape(core.query)[-1]
    if attention.matches(core.operation.name):
        scale = core.operation.kwargs.get("scale")
        scaling.append(float(scale) if isinstance(scale, Real) else size**-0.5)
    else:
        scaling += _by_hand(flow, core)
    known = [factor for factor in scaling if factor is not None]
    return math.sqrt(size) * math.prod(known) if len(known) == len(scaling) else None


def _by_hand(flow: Flow, core: AttentionCore) -> list[float | None]:
    """Factors from the product q kᵀ to its softmax; an unknown one where there is none."""
    both = (core.query, core.key)
    product = next(
        (op for op in flow.graph.consumers.get(core.query, ()) if factors(op) == both), None
    )
    if product is None:
        return [None]
    found: list[float | None] = []
    if word(product) in ("baddbmm", "addmm", "addbmm"):
        found.append(float(argument(product, 4, "alpha", 1)))
    front, seen, ends = [product.outputs[0]], set[int](), False
    while front:
        for consumer in flow.graph.consumers.get(front.pop(), ()):
            if consumer.index in seen:
                continue
            seen.add(consumer.index)
            step = flow.step(consumer)
            ends = ends or step is Step.SOFTMAX
            if step in _ON_THE_WAY:
                front.extend(consumer.outputs[:1])
            if step is Step.SCALE:
                found.append(_factor(flow, consumer))
    return found if ends else [None]


def _factor(flow: Flow, operation: Operation) -> float | None:
    """The constant that an elementwise operation multiplies by; None where it does not show.

    A tensor of several elements turns (rotary angles) or masks: it counts as 1.
    """
    name = word(operation)
    if name not in ("mul", "div", "multiply", "divide", "true_divide", "mul_scalar"):
        return 1.0
    others = [a for a in operation.args[:2] if not _is_signal(flow, a)]
    if not others:
        return 1.0
    other = others[0]
    if isinstance(other, Ref):
        return 1.0 if math.prod(flow.reading.shape(other.tensor)) > 1 else None
    if not isinstance(other, Real) or not float(other):
        return None
    return abs(float(other) if name.startswith("mul") else 1 / float(other))


def _is_signal(flow: Flow, value: object) -> bool:
    return isinstance(value, Ref) and flow.reading.is_signal(value.tensor)
