"""Scales of normalisation layers."""

from fanin.planning.auto.intent import shows_intent
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Ones


def norm_scale(subject: Subject, circumstances: Circumstances) -> Decision:
    """One; another constant (a branch that starts closed at 0) is the author's and stays."""
    constant = subject.constant
    if constant is not None and constant != 1 and shows_intent(circumstances):
        return leave(f"norm scale: its constructor's {constant:g} stays", *subject.role.evidence)
    return Decision(Ones(), "norm scale: 1", subject.role.evidence)
