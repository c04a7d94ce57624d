"""Query, key, value and output projections."""

from dataclasses import replace

from fanin.graph.role import Role
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.auto.residual import reader_scale, residual_scale
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, LeCun, VarianceScaling
from fanin.schemes.scheme import Scheme

_LETTERS = {"q": Role.QUERY, "k": Role.KEY, "v": Role.VALUE}

_MOST_LOGIT_STD = 1 + 1e-6
"""A softmax over logits of std 1 still spreads: Σa² ≈ e/T over T keys.  Rounding is allowed."""


def attention(subject: Subject, circumstances: Circumstances) -> Decision:
    """1/fan_in per logical matrix, so that logits of unit inputs have std 1 after a division by √d.

    Behind a pre-norm 2/(5·fan_in), and a std of .4. Where nothing divides the logits, as in T5, the
    queries start that much smaller.
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
        why = f"÷ {std:.4g}, since nothing else keeps its logits from a std of {std:.4g}"
        small, reads = reader_scale(subject)
        return small * std**-2, f"{reads}, {why}" if reads else why
    return residual_scale(subject, circumstances)


def _packed(subject: Subject, circumstances: Circumstances) -> Decision:
    """Each of q, k and v as if it stood alone."""
    role, names = subject.role, subject.role.block_names
    pieces = len(subject.axes.block_sizes)
    label = "/".join(dict.fromkeys(names)) if names else "q/k/v"
    each = f"for each of its {max(pieces, 1)} matrices"
    found = {"": reader_scale(subject)}
    if names and len(names) == pieces:
        found = {
            name: _scale(replace(subject, role=replace(role, role=_LETTERS[name])), circumstances)
            if name in _LETTERS
            else reader_scale(subject)
            for name in names
        }
    scales = {scale for scale, _ in found.values()}
    if len(scales) == 1:
        scale, why = next(iter(found.values()))
        scheme = LeCun() if scale == 1 else VarianceScaling(scale=scale)
        return Decision(scheme, f"packed {label}: {why or '1/fan_in'}, {each}", role.evidence)
    reason = f"packed {label}: 1/fan_in {each}"
    reason += "".join(f"; {name} {why}" for name, (scale, why) in found.items() if scale != 1)
    schemes: list[Scheme] = [
        LeCun() if found[name][0] == 1 else VarianceScaling(scale=found[name][0]) for name in names
    ]
    return Decision(Blockwise(tuple(schemes)), reason, role.evidence)
