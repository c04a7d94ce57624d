"""Query, key, value and output projections."""

from dataclasses import replace

from fanin.graph.role import Role
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.auto.residual import residual_scale
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, LeCun, VarianceScaling
from fanin.schemes.scheme import Scheme

_LETTERS = {"q": Role.QUERY, "k": Role.KEY, "v": Role.VALUE}

_MOST_LOGIT_STD = 1 + 1e-6
"""A softmax over logits of std 1 still spreads: Σa² ≈ e/T over T keys.  Rounding is allowed."""


def attention(subject: Subject, circumstances: Circumstances) -> Decision:
    """1/fan_in per logical matrix, so that logits of unit inputs have std 1 after a division by √d.

    Where nothing divides them, as in T5, the queries start that much smaller.
    """
    kept = deliberate_zero(subject, circumstances)
    if kept is not None:
        return kept
    if subject.role.role is Role.PACKED_QKV:
        return _packed(subject, circumstances)
    factor, why = _scale(subject, circumstances)
    scheme = LeCun() if factor == 1 else VarianceScaling(scale=factor)
    reason = f"{subject.role.role}: {why}" if factor != 1 else _plain_reason(subject, why)
    return Decision(scheme, reason, subject.role.evidence)


def _plain_reason(subject: Subject, why: str) -> str:
    role = subject.role
    if role.norm_after and role.role in {Role.QUERY, Role.KEY}:
        why = "a norm sets the size of the logits, whatever its scale"
    return f"{role.role}: 1/fan_in" + (f"; {why}" if why else "")


def _scale(subject: Subject, circumstances: Circumstances) -> tuple[float, str]:
    """The factor on 1/fan_in of one logical matrix, and why."""
    role = subject.role
    std = role.logit_std
    if role.role is Role.QUERY and std is not None and std > _MOST_LOGIT_STD:
        return std**-2, f"÷ {std:.4g}, since nothing else keeps its logits from a std of {std:.4g}"
    return residual_scale(subject, circumstances)


def _packed(subject: Subject, circumstances: Circumstances) -> Decision:
    """Each of q, k and v as if it stood alone."""
    role, names = subject.role, subject.role.block_names
    pieces = len(subject.axes.block_sizes)
    label = "/".join(dict.fromkeys(names)) if names else "q/k/v"
    reason = f"packed {label}: 1/fan_in for each of its {max(pieces, 1)} matrices"
    if len(names) != pieces:
        return Decision(LeCun(), reason, role.evidence)
    scales = {}
    for name in dict.fromkeys(names):
        piece = replace(subject, role=replace(role, role=_LETTERS.get(name, Role.WEIGHT)))
        factor, why = _scale(piece, circumstances) if name in _LETTERS else (1.0, "")
        scales[name] = factor
        reason += f"; {name} {why}" if factor != 1 else ""
    if set(scales.values()) <= {1.0}:
        return Decision(LeCun(), reason, role.evidence)
    schemes: list[Scheme] = [
        LeCun() if scales[name] == 1 else VarianceScaling(scale=scales[name]) for name in names
    ]
    return Decision(Blockwise(tuple(schemes)), reason, role.evidence)
