"""The last layer, whose outputs are logits or predictions, and the router of experts."""

from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import VarianceScaling

LOGIT_STD = 0.25
"""Small enough that the loss starts at ln C (σ²/2 = .03 above it), large enough that the layers
below get a gradient from the first step on; zero would leave them without one."""

ROUTER_LOGIT_STD = 0.1
"""So small that every expert starts with about its share of the tokens."""


def head(subject: Subject, circumstances: Circumstances) -> Decision:
    """Logits of std 0.25 for unit features: the loss starts near ln C."""
    kept = deliberate_zero(subject, circumstances)
    if kept is not None:
        return kept
    reason = f"head: {LOGIT_STD} fan_in^(−½), so that the loss starts near ln C"
    return Decision(VarianceScaling(scale=LOGIT_STD**2), reason, subject.role.evidence)


def router(subject: Subject, circumstances: Circumstances) -> Decision:
    """Logits of std 0.1: no expert is preferred at the start, and none is equal to another."""
    reason = f"router: {ROUTER_LOGIT_STD} fan_in^(−½), so that experts start evenly loaded"
    return Decision(VarianceScaling(scale=ROUTER_LOGIT_STD**2), reason, subject.role.evidence)
