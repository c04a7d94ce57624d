"""Biases of layers."""

from fanin.planning.auto.intent import phase_of_sine, sets_a_time_step, shows_intent
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Zeros


def bias(subject: Subject, circumstances: Circumstances) -> Decision:
    """Zero; a constant other than 0 was set by the author (a prior, a gate held open) and stays."""
    if subject.constant and shows_intent(circumstances) and subject.count > 1:
        value = subject.constant
        return leave(f"bias: its constructor's {value:g} stays", *subject.role.evidence)
    if phase_of_sine(subject, circumstances):
        why = "bias: the phase of a sine stays its constructor's; without it the net is odd"
        return leave(why, *subject.role.evidence)
    if sets_a_time_step(subject, circumstances):
        why = "bias: a state space's time steps stay its constructor's"
        return leave(why, "softplus(· + b) is read by e^(−A·Δ)", *subject.role.evidence)
    return Decision(Zeros(), "bias: 0", subject.role.evidence)
