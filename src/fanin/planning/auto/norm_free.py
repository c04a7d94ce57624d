"""Residual networks without normalisation: x + F(x), F of several layers.

L branches add up, and so do their steps: after one step of gradient descent the branches have moved
the stream by η times the sum, over their layers, of the squared size of all other layers of the
branch.  That sum stays at η, whatever L, where any m − 1 of a branch's m layers have a product of
L^(−½) in size: Fixup's L^(−1/(2m−2)) on each of them (Zhang, Dauphin & Ma 2019).  With L^(−½) on
the last layer alone the signal is as stable, but the sum grows as L and the rate that trains falls
as 1/L.

The last layer may then be zero, so that every block starts as the identity.  Not where a zero would
stay or meet another: behind it an activation whose slope at 0 is 0, another signal, a factor of the
author's.  It then gets the size of the other layers.
A constant c that scales the branch has done a part of the work: what is left for each layer is
(L^(−½)/c)^(1/(m−1)), 1 at most.  A learned factor leaves it all to the layers, since it grows:
SkipInit's α = 0 before layers of full size trains at a rate that falls with L, before layers of
L^(−1/(2m−2)) at the same rate at 10 and at 50 blocks.

Where attention stands in the stream, the layers before the last keep their size, which its logits
need, and only the last layer of each branch is zero.
"""

import math

from fanin.graph.role import Branch, Role
from fanin.planning.auto.gain import squared_gain
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import LeCun, VarianceScaling, Zeros
from fanin.schemes.scheme import Scheme

_ROLES = frozenset({Role.WEIGHT, Role.RESIDUAL_WRITER})


def in_norm_free_branch(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """The decision for a weight of a branch of two or more layers without a norm; else None."""
    role, branch = subject.role, subject.role.branch
    if branch is None or role.role not in _ROLES or not is_norm_free(subject):
        return None
    count, layers = role.stream_branches, branch.layers
    squared, fact = squared_gain(role.before)
    place = f"layer {branch.place} of {layers} in one of {count} branches without a norm"
    evidence = (fact, *role.evidence)
    scaled = author_scale(branch, circumstances)
    if subject.writes_residual and _may_close(subject, circumstances):
        return Decision(Zeros(), f"{place}: 0, so that each block starts as the identity", evidence)
    factor = min(count**-0.5 / scaled, 1.0) ** (1 / (layers - 1))
    source = f"reads {role.before.name}: He" if squared != 1 and role.before else "fan_in^(−½)"
    if factor == 1:
        reason = f"{place}: {source}; its author scales the branch by {scaled:.3g}"
    elif scaled == 1:
        reason = f"{place}: {source} · {count}^(−1/{2 * layers - 2}) (Fixup)"
    else:
        power = f"^(1/{layers - 1})" if layers > 2 else ""
        reason = f"{place}: {source} · ({count}^(−½)/{scaled:.3g}){power}"
    scale = squared * factor**2
    scheme: Scheme = LeCun() if scale == 1 else VarianceScaling(scale=scale)
    return Decision(scheme, reason, evidence)


def closed_beside_attention(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """Zeros for the end of a branch in a stream of attention without any norm; else None."""
    role, branch = subject.role, subject.role.branch
    # A value that is added to what attention makes of it ends the branch too, but is not last:
    # were both 0, neither would let the other learn.
    ends = branch is not None and branch.attends and branch.place == branch.layers
    if not (ends and _without_norms(subject) and subject.writes_residual):
        return None
    if not _may_close(subject, circumstances) or deliberate_zero(subject, circumstances):
        return None
    count = role.stream_branches
    reason = f"end of one of {count} branches without a norm, beside attention: 0, so that each "
    return Decision(Zeros(), reason + "block starts as the identity", role.evidence)


def is_norm_free(subject: Subject) -> bool:
    """Whether a weight stands in one of several plain branches of two or more layers, no norm."""
    branch = subject.role.branch
    return branch is not None and branch.plain and not branch.encloses and _without_norms(subject)


def _without_norms(subject: Subject) -> bool:
    role, branch = subject.role, subject.role.branch
    return (
        branch is not None
        and role.stream_branches > 1
        and branch.layers > 1
        and not role.post_norm
        and not role.norm_after
        and not branch.normed
    )


def author_scale(branch: Branch, circumstances: Circumstances) -> float:
    """The constant by which the author scales a branch, frozen parameters included; 1 at most.

    Args:
        branch: in the model of ``circumstances``.
        circumstances: where the constants of parameters are known.
    """
    subjects = circumstances.subjects
    known = [
        abs(value)
        for name in branch.factors
        if name in subjects and subjects[name].frozen and (value := subjects[name].constant)
    ]
    return min(branch.constant * math.prod(known), 1.0)


def _may_close(subject: Subject, circumstances: Circumstances) -> bool:
    """Whether zeros at the end of a branch get a gradient, and leave the others one after it."""
    branch, subjects = subject.role.branch, circumstances.subjects
    assert branch is not None
    if branch.bent or branch.gated or branch.constant < 1:
        return False
    # Fixup's multiplier of 1 scales nothing yet.
    ones = all(name in subjects and subjects[name].constant == 1 for name in branch.factors)
    return ones and subject.parametrised is None
