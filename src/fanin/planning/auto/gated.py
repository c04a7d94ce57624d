"""Gated MLPs: φ(gate · x) ⊙ (up · x), read by down."""

from fanin.graph.role import Activation, Role
from fanin.planning.auto.gain import LINEAR, name_of, squared_gain
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.auto.residual import residual_scale
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import LeCun, VarianceScaling


def inner_projection(subject: Subject, circumstances: Circumstances) -> Decision:
    """Gate and up: 1/fan_in, so that both factors of the product have unit variance."""
    role = subject.role
    factor, why = residual_scale(subject, circumstances)
    if factor != 1:
        return Decision(VarianceScaling(scale=factor), f"{role.role}: {why}", role.evidence)
    return Decision(LeCun(), f"{role.role} of a gated MLP: 1/fan_in", role.evidence)


def down_projection(subject: Subject, circumstances: Circumstances) -> Decision:
    """1/(E[φ²]·n): gate and up are independent, so their product has second moment E[φ²]."""
    kept = deliberate_zero(subject, circumstances)
    if kept is not None:
        return kept
    gate = subject.role.before
    if name_of(gate) in LINEAR:
        gate = _gate_activation(subject, circumstances)
    squared, fact = squared_gain(gate)
    factor, why = residual_scale(subject, circumstances)
    product = f"reads {name_of(gate) or 'a'}-gated product with E = {1 / squared:.4g}"
    reason = f"{product}; {why}" if why else product
    scheme = VarianceScaling(scale=squared * factor)
    return Decision(scheme, reason, (fact, *subject.role.evidence))


def _gate_activation(subject: Subject, circumstances: Circumstances) -> Activation | None:
    """The activation of the gate projection beside this down projection."""
    around = subject.module.rpartition(".")[0]
    for other in circumstances:
        if other.role.role is Role.GATE_PROJECTION and other.module.startswith(around):
            return other.role.activation
    return None
