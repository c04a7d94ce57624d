"""From measured factors to a plan: a ``Scaled`` scheme for each, with the reason."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from fanin.calibrating.scratch import Scratch
from fanin.graph.role import Role
from fanin.measuring.validating import batch_size
from fanin.planning.assignment import Assignment, Plan
from fanin.planning.expectation import expected_std
from fanin.planning.subject import LAYER_WEIGHTS
from fanin.schemes.scaled import Scaled
from fanin.schemes.scheme import Scheme

_DIGITS = 7  # as many as float32 holds


@dataclass(frozen=True)
class Measured:
    """What was found for one parameter.

    Args:
        reason: one sentence.
        factor: what its numbers are multiplied by; None leaves them as the base recipe drew them.
        evidence: further facts.
        scheme: what the factor multiplies; None for what the base recipe draws.
    """

    reason: str
    factor: float | tuple[float, ...] | None = None
    evidence: tuple[str, ...] = ()
    scheme: Scheme | None = None


def with_factors(
    plan: Plan, found: Mapping[str, Measured], notes: Sequence[str], inputs: Any, seed: int
) -> Plan:
    """The plan with each measured factor in its place."""
    made = {n: _measured(a, found[n]) if n in found else a for n, a in plan.items()}
    scaled = any(made[n] is not plan[n] and found[n].factor is not None for n in found)
    samples = batch_size(inputs)
    where = (
        f"measured on {samples} sample{'s' if samples != 1 else ''} with the numbers of seed "
        f"{seed}: apply it with the same seed",
    )
    advice = (*plan.advice, *notes, *(where if scaled else ()))
    return replace(plan, assignments=made, advice=advice)


def _measured(a: Assignment, found: Measured) -> Assignment:
    evidence = (f"drawn by the base recipe: {a.reason}", *a.evidence, *found.evidence)
    if found.factor is None or found.factor == 1.0:
        return replace(a, reason=found.reason, evidence=evidence)
    of = found.scheme or a.scheme
    assert of is not None
    scheme = Scaled(of, _rounded(found.factor))
    std = expected_std(scheme, a.shape, a.axes, a.zero_rows)
    return replace(a, scheme=scheme, std=std, reason=found.reason, evidence=evidence)


def _rounded(factor: float | tuple[float, ...]) -> float | tuple[float, ...]:
    if isinstance(factor, tuple):
        return tuple(float(f"{f:.{_DIGITS}g}") for f in factor)
    return float(f"{factor:.{_DIGITS}g}")


def weights_to_measure(
    scratch: Scratch, plan: Plan, free: Collection[str], recipe: str
) -> tuple[dict[str, Assignment], dict[str, Measured]]:
    """The free layer weights whose scale shows, and those that stay as drawn, with the reason."""
    weights = layer_weights(plan, free)
    left = {n: Measured(f"{recipe}: as drawn: {why}") for n in weights if (why := scratch.fixed(n))}
    shown = {n: a for n, a in weights.items() if n not in left}
    return shown, left | recurrent_weights(plan, free, recipe)


def layer_weights(plan: Plan, free: Collection[str]) -> dict[str, Assignment]:
    """The free weights that multiply their input, recurrent ones left out."""
    wanted, recurrent = {*map(str, LAYER_WEIGHTS), str(Role.TIED_HEAD)}, set(_recurrent(plan))
    return {
        n: a
        for n, a in plan.items()
        if n in set(free) and a.role in wanted and n not in recurrent and prod(a.shape) > 0
    }


def recurrent_weights(plan: Plan, free: Collection[str], recipe: str) -> dict[str, Measured]:
    """The free weights that multiply their own earlier output, with why they stay as drawn.

    The scale that gives one step unit variance lets a long sequence explode.
    """
    why = f"{recipe}: as drawn: a recurrent matrix meets its own output again"
    return {name: Measured(why) for name in _recurrent(plan) if name in set(free)}


def _recurrent(plan: Plan) -> list[str]:
    """Weights of a recurrence into which every step brings new data.

    A layer that is only applied several times in a row is no such thing: it is a shared weight.
    """
    places = [_places(n) for n, a in plan.items() if a.role == str(Role.RECURRENT_INPUT)]
    fed = {place for both in places for place in both}
    return [n for n, a in plan.items() if a.role == str(Role.RECURRENT) and fed & _places(n)]


def _places(name: str) -> set[str]:
    """The module that owns a parameter, and the one around it."""
    owner = name.split(".parametrizations.")[0].rpartition(".")[0]
    return {f"in {owner}", f"around {owner.rpartition('.')[0]}"}


def listed(values: Sequence[float]) -> str:
    """Numbers for a sentence: up to four, or how many and their range."""
    if len(values) <= 4:
        return ", ".join(f"{v:.3g}" for v in values)
    return f"{min(values):.3g} to {max(values):.3g}"
