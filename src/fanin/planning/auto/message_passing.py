"""Graph nets: weights that read, or send, what is gathered over the edges of a graph.

The scheme that a weight would have elsewhere is divided by the root of what gathering does to its
input since the last activation and to its output up to the next one, so that activations see
second moment 1. Several weights that meet in the model's output are heads, each of them.
"""

from dataclasses import replace

from fanin.graph.role import Role
from fanin.planning.auto.gathered_signals import changes
from fanin.planning.auto.head import LOGIT_STD
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Scaled

LEAST_CHANGE = 1.1
"""Factors on the second moment nearer to 1 than this are left out of the plan."""


def corrected_for_degree(
    subject: Subject, circumstances: Circumstances, decision: Decision
) -> Decision:
    """The decision, its scheme scaled where messages are gathered beside the weight."""
    if decision.scheme is None or not subject.is_layer_weight or subject.role.norm_after:
        return decision
    change = changes(circumstances).get(subject.name)
    if change is None:
        return decision
    power = change.before * change.after
    why = change.why
    if change.ends and subject.role.role is Role.WEIGHT:
        power /= LOGIT_STD**2
        why = f"{why}, at the model's end: outputs of std {LOGIT_STD}"
    if max(power, 1 / power) < LEAST_CHANGE:
        return decision
    factor = float(f"{power**-0.5:.3g}")
    return replace(
        decision,
        scheme=Scaled(decision.scheme, factor),
        reason=f"{decision.reason}; × {factor:g} for {why}",
        evidence=(
            f"gathering changes the second moment by {change.before:.3g} before this weight and "
            f"by {change.after:.3g} between it and the next activation",
            *decision.evidence,
        ),
    )
