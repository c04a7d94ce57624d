"""Query, key, value and output projections."""

from dataclasses import replace

from fanin.graph.role import Role
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.auto.residual import residual_scale
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, LeCun, VarianceScaling
from fanin.schemes.scheme import Scheme


def attention(subject: Subject, circumstances: Circumstances) -> Decision:
    """1/fan_in per logical matrix: then logits of unit inputs have std at most 1 after 1/√d."""
    kept = deliberate_zero(subject, circumstances)
    if kept is not None:
        return kept
    role, evidence = subject.role, subject.role.evidence
    if role.role is Role.PACKED_QKV:
        return _packed(subject, circumstances)
    factor, why = residual_scale(subject, circumstances)
    if factor != 1:
        return Decision(VarianceScaling(scale=factor), f"{role.role}: {why}", evidence)
    return Decision(LeCun(), f"{role.role}: 1/fan_in", evidence)


def _packed(subject: Subject, circumstances: Circumstances) -> Decision:
    role, names = subject.role, subject.role.block_names
    pieces = len(subject.axes.block_sizes)
    label = "/".join(names) if names else "q/k/v"
    reason = f"packed {label}: 1/fan_in for each of its {max(pieces, 1)} matrices"
    value = replace(subject, role=replace(role, role=Role.VALUE))
    factor, why = residual_scale(value, circumstances)
    if factor == 1 or "v" not in names or len(names) != pieces:
        return Decision(LeCun(), reason, role.evidence)
    schemes: list[Scheme] = [
        VarianceScaling(scale=factor) if name == "v" else LeCun() for name in names
    ]
    return Decision(Blockwise(tuple(schemes)), f"{reason}; v {why}", role.evidence)
