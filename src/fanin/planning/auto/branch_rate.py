"""The learning rate that residual branches of a single layer allow.

Where a branch is one layer, x + W φ(x), no other layer of it can be made small to keep the step
small: L branches move the stream by L·E[φ²] times what one dense layer would, whatever their
weights, each convolution T times (``shared_places``), and a constant c on the branch by c².  The
bound of a plain stack, 0.3 over the number of layers that move the logits, then holds for that sum.
(Branches of two and more layers start as Fixup, and their steps do not add up.)

Digits, two seeds, rates in steps of 3 around the bound: it was the best for 30 branches of GELU and
80 of ReLU, width 32, and for 20 convolutions; 30 branches without an activation trained at it, and
did best at a third.
"""

from fanin.graph.role import Role
from fanin.planning.auto.gain import squared_gain
from fanin.planning.auto.norm_free import author_scale
from fanin.planning.auto.shared_places import taps_that_act
from fanin.planning.auto.stack_curvature import learnt_rate
from fanin.planning.subject import Circumstances, Subject

_WORTH_SAYING = 3e-2
"""Rates above are above those that anyone would try first."""


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """What to train residual nets with whose branches are single layers without a norm."""
    writers = [s for s in circumstances if _is_alone(s)]
    if not writers:
        return ()
    count = max(s.role.stream_branches for s in writers)
    moved = sum(_moves(s, circumstances) for s in writers if s.role.stream_branches == count)
    rate = learnt_rate(moved)
    if rate > _WORTH_SAYING:
        return ()
    return (
        f"{count} residual branches of one layer without a norm: begin SGD with momentum 0.9 at a "
        f"learning rate of about {rate:.1g} (0.3/{moved:.3g}: all of them move the stream at once, "
        "and with one layer a branch no start changes that); a few times as much may diverge.",
    )


def _is_alone(subject: Subject) -> bool:
    """Whether a weight is all that stands in a plain branch of a stream without norms."""
    role, branch = subject.role, subject.role.branch
    return (
        branch is not None
        and role.role is Role.RESIDUAL_WRITER
        and role.stream_branches > 1
        and branch.layers == 1
        and branch.plain
        and not (role.post_norm or role.norm_after or branch.normed or branch.bent)
        and not (branch.encloses or branch.factors)
    )


def _moves(subject: Subject, circumstances: Circumstances) -> float:
    """Of how many dense layers on unit signals its step is worth."""
    squared, _ = squared_gain(subject.role.before)
    branch = subject.role.branch
    scale = author_scale(branch, circumstances) if branch is not None else 1.0
    return scale**2 * taps_that_act(subject, circumstances) / squared
