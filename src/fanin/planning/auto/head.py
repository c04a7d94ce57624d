"""Layers that steer or end the model: heads, modulation, routers of experts."""

from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.auto.plain_stack import behind_deep_stack
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import LeCun, VarianceScaling

LOGIT_STD = 0.25
"""Small enough that the loss starts at ln C (σ²/2 = .03 above it), large enough that the layers
below get a gradient from the first step on; zero would leave them without one."""

ROUTER_LOGIT_STD = 0.1
"""So small that every expert starts with about its share of the tokens."""


def head(subject: Subject, circumstances: Circumstances) -> Decision:
    """Logits of std 0.25: for unit features, or for those of the deep plain stack before it."""
    decision = deliberate_zero(subject, circumstances)
    decision = decision or behind_deep_stack(subject, circumstances)
    if decision is not None:
        return decision
    reason = f"head: {LOGIT_STD} fan_in^(−½), so that the loss starts near ln C"
    return Decision(VarianceScaling(scale=LOGIT_STD**2), reason, subject.role.evidence)


def modulation(subject: Subject, circumstances: Circumstances) -> Decision:
    """Scales and shifts of another stream: the constructor's zeros, else 1/fan_in.

    Zero is adaLN-Zero's start, but only where 1 is added to the scale: that is the author's call.
    """
    kept = deliberate_zero(subject, circumstances)
    if kept is not None:
        return kept
    reason = "modulation: 1/fan_in (the recipe 'dit' starts it at 0)"
    return Decision(LeCun(), reason, subject.role.evidence)


def router(subject: Subject, circumstances: Circumstances) -> Decision:
    """Logits of std 0.1: no expert is preferred at the start, and none is equal to another."""
    reason = f"router: {ROUTER_LOGIT_STD} fan_in^(−½), so that experts start evenly loaded"
    return Decision(VarianceScaling(scale=ROUTER_LOGIT_STD**2), reason, subject.role.evidence)
