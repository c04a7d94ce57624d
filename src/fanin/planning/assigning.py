"""From decisions to assignments: checked, complete, with tied and derived parameters."""

from collections.abc import Mapping
from dataclasses import replace

from fanin.axes import dense_axes
from fanin.errors import FaninError, PlanError, unknown_name
from fanin.graph.graph import ParameterInfo
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.expectation import expected_std
from fanin.planning.parametrised import Parametrisation, ParametrisedWeight
from fanin.planning.reading import ModelReading
from fanin.planning.recipe import Decision
from fanin.planning.subject import Subject
from fanin.schemes import Orthogonal


def assign(subject: Subject, decision: Decision) -> Assignment:
    """A decision as an assignment, its expected std computed.

    Raises:
        PlanError: the scheme cannot draw this parameter.
    """
    decision = _as_the_parametrisation_allows(subject, decision)
    axes = decision.axes if decision.axes is not None else subject.axes
    rows = decision.zero_rows
    if subject.padding_row is not None and decision.scheme is not None and not rows:
        rows = (subject.padding_row,)
    std = None
    if decision.scheme is not None:
        try:
            std = expected_std(decision.scheme, subject.shape, axes, rows)
        except FaninError as error:
            raise PlanError(
                f"{subject.name!r} of shape {subject.shape} ({subject.role.role}): {error} "
                f"Give it another scheme with overrides={{{subject.name!r}: ...}}."
            ) from error
    weight = subject.parametrised
    return Assignment(
        parameter=subject.name,
        scheme=decision.scheme,
        axes=axes,
        role=str(subject.role.role),
        reason=decision.reason,
        evidence=decision.evidence,
        std=std,
        shape=subject.shape,
        action=Action.LEAVE if decision.scheme is None else Action.INITIALISE,
        zero_rows=rows,
        through=weight.effective if weight is not None and _shows(weight, decision) else None,
        place=subject.role.place,
    )


def _as_the_parametrisation_allows(subject: Subject, decision: Decision) -> Decision:
    """What a parametrisation makes of a decision.

    An orthogonal one turns whatever is drawn into an orthogonal matrix; one without an inverse
    makes another weight of it, which is told.
    """
    weight = subject.parametrised
    if weight is None or decision.scheme is None:
        return decision
    if weight.kind is Parametrisation.OPAQUE:
        note = f"drawn under {weight.kind}, so that the weight itself is another"
        return replace(decision, reason=f"{decision.reason}; {note}")
    if weight.kind is not Parametrisation.ORTHOGONAL:
        return decision
    if isinstance(decision.scheme, Orthogonal):
        return decision
    reason = "its parametrisation allows orthogonal matrices only"
    return replace(decision, scheme=Orthogonal(), reason=f"orthogonal: {reason}")


_SHOWN = {
    Parametrisation.WEIGHT_NORM,
    Parametrisation.WEIGHT_NORM_HOOK,
    Parametrisation.ORTHOGONAL,
    Parametrisation.INVERTIBLE,
}


def _shows(weight: ParametrisedWeight, decision: Decision) -> bool:
    """The draw appears as the effective weight; spectral_norm divides it first."""
    return decision.scheme is not None and weight.kind in _SHOWN


def frozen(subject: Subject) -> Assignment:
    """What a parameter gets that does not require a gradient: it is kept."""
    return Assignment(
        parameter=subject.name,
        scheme=None,
        axes=subject.axes,
        role=str(subject.role.role),
        reason="kept: frozen (requires_grad=False); name it in overrides to initialise it",
        shape=subject.shape,
        action=Action.KEEP,
        place=subject.role.place,
    )


def absent(subject: Subject) -> Assignment:
    """What a parameter gets that a plan of the user's does not name: it is left."""
    return replace(
        frozen(subject), action=Action.LEAVE, reason="left: the plan given does not name it"
    )


def parametrised_weights_of(reading: ModelReading) -> list[ParametrisedWeight]:
    """The effective weights whose carriers are parameters of their own."""
    return [s.parametrised for s in reading.circumstances if s.parametrised is not None]


def complete(decided: Mapping[str, Assignment], reading: ModelReading) -> dict[str, Assignment]:
    """All parameters in the model's order, tied and derived ones included."""
    made: dict[str, Assignment] = {}
    for name, info in reading.parameters.items():
        if info.tied_to is not None:
            reason = f"the same tensor as {info.tied_to}, drawn there once"
            made[name] = _follower(info, name, Action.TIED, info.tied_to, reason)
        elif name in reading.derived:
            weight = reading.derived[name]
            reason = f"set with {weight.effective}, which {weight.kind} computes from it"
            made[name] = _follower(info, name, Action.DERIVED, weight.carrier, reason)
        else:
            made[name] = decided[name]
    return made


def _follower(
    info: ParameterInfo, name: str, action: Action, owner: str, reason: str
) -> Assignment:
    """What a parameter gets that follows another; ``explain_followers`` completes it."""
    return Assignment(
        parameter=name,
        scheme=None,
        axes=dense_axes(info.shape),
        role="",
        reason=reason,
        shape=info.shape,
        action=action,
        tied_to=owner,
    )


def explain_followers(made: dict[str, Assignment]) -> dict[str, Assignment]:
    """Tied and derived parameters take the role and the fate of the one that they follow."""
    for name, a in made.items():
        if a.action not in {Action.TIED, Action.DERIVED} or a.tied_to is None:
            continue
        owner = made[a.tied_to]
        made[name] = replace(a, role=owner.role)
        if a.action is Action.DERIVED and owner.action is not Action.INITIALISE:
            made[name] = replace(made[name], action=owner.action, reason=owner.reason, tied_to=None)
    return made


def check_fits(given: Plan, parameters: Mapping[str, ParameterInfo], model_type: str) -> None:
    """Raise PlanError unless every parameter of the plan is in the model, with its shape."""
    for name, a in given.items():
        info = parameters.get(name)
        if info is None:
            raise PlanError(
                f"the plan names {name!r}, which {model_type} does not have. "
                f"{unknown_name('parameter', name, parameters, 'print(plan)')}"
            )
        if a.shape and a.shape != info.shape:
            raise PlanError(
                f"{name!r} has shape {info.shape} in the model and {a.shape} in the plan. "
                "Make a new plan for this model."
            )
