"""Convolutions: as linear layers, with the fans of their use."""

from dataclasses import replace

from fanin.planning.auto.linear import linear
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject


def convolution(subject: Subject, circumstances: Circumstances) -> Decision:
    """The choice of a linear layer; groups, stride and transposition are in the fans."""
    decision = linear(subject, circumstances)
    axes, fans = subject.axes, subject.fans
    special = []
    if axes.groups > 1:
        special.append(f"{axes.groups} groups")
    if axes.transposed:
        special.append("transposed")
    if any(step > 1 for step in axes.stride):
        special.append(f"stride {'×'.join(map(str, axes.stride))}")
    if decision.scheme is None or not special:
        return decision
    fact = f"{', '.join(special)}: one output sums {fans.fan_in:g} inputs"
    return replace(decision, evidence=(fact, *decision.evidence))
