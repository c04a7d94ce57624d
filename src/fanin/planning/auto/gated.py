"""Gated MLPs: φ(gate · x) ⊙ (up · x), read by down."""

from dataclasses import replace

from fanin.graph.role import Activation, Role
from fanin.planning.auto.gain import LINEAR, name_of, squared_gain
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.auto.residual import reader_scale, residual_scale
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, LeCun, VarianceScaling
from fanin.schemes.scheme import Scheme


def inner_projection(subject: Subject, circumstances: Circumstances) -> Decision:
    """Gate and up alike: SmallInit behind a pre-norm, else 1/fan_in, for unit variance.

    In a post-norm branch up is scaled as an MLP's first matrix is; the gate only chooses.
    """
    role = subject.role
    small, why = reader_scale(subject)
    if small != 1:
        reason = f"{role.role} of a gated MLP: {why}"
        return Decision(VarianceScaling(scale=small), reason, role.evidence)
    plain = f"{role.role} of a gated MLP: 1/fan_in"
    names = role.block_names
    up = replace(subject, role=replace(role, role=Role.UP_PROJECTION))
    factor, why = residual_scale(up, circumstances)
    if factor == 1 or (role.role is Role.GATE_PROJECTION and "up" not in names):
        return Decision(LeCun(), plain, role.evidence)
    if not names:
        return Decision(VarianceScaling(scale=factor), f"{role.role}: {why}", role.evidence)
    pieces: list[Scheme] = [
        VarianceScaling(scale=factor) if name == "up" else LeCun() for name in names
    ]
    return Decision(Blockwise(tuple(pieces)), f"{plain}; up {why}", role.evidence)


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
