"""What the user says about single parameters: ``overrides`` and ``keep``."""

from collections.abc import Iterable, KeysView, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from fanin.errors import FaninError, PlanError, SchemeError
from fanin.planning.assignment import Action, Assignment
from fanin.planning.expectation import expected_std
from fanin.planning.matching import Names
from fanin.planning.subject import BIASES
from fanin.schemes import scheme
from fanin.schemes.scheme import Scheme

Overrides = Mapping[str | type[nn.Module], Scheme | str | None]
Keep = str | Iterable[str] | Mapping[str, Any]

_ADDED = frozenset(str(role) for role in BIASES)


def override(
    assignments: dict[str, Assignment],
    overrides: Overrides,
    names: Names,
    undrawable: Mapping[str, str],
) -> dict[str, Assignment]:
    """Assignments with the user's schemes in place; a later key wins over an earlier one.

    Raises:
        UnknownNameError: a key matches nothing; the message names the nearest names.
        PlanError: the scheme cannot draw what the key matches.
    """
    made = dict(assignments)
    for key, value in overrides.items():
        chosen = _scheme_of(key, value)
        matched, whole_module = _matched(key, names)
        # A tied name stands for the tensor under its first name.
        targets = list(dict.fromkeys(_owner(made, name) for name in matched))
        if whole_module and chosen is not None:
            targets = [name for name in targets if made[name].role not in _ADDED]
        if not targets:
            raise names.unmatched("overrides", key)
        label = key if isinstance(key, str) else key.__name__
        for name in targets:
            made[name] = _overridden(made[name], chosen, label, undrawable.get(name))
    return made


def _scheme_of(key: object, value: object) -> Scheme | None:
    if value is None:
        return None
    try:
        return scheme(value)
    except SchemeError as error:
        raise PlanError(f"overrides[{key!r}]: {error}") from error


def _matched(key: object, names: Names) -> tuple[list[str], bool]:
    """The parameters that a key stands for, and whether it named whole modules."""
    if isinstance(key, str):
        own = [name for name in names.named(key) if name in names.parameters]
        return (own, False) if own else (names.under(key), True)
    if isinstance(key, type) and issubclass(key, nn.Module):
        return names.of_type(key), True
    raise PlanError(f"overrides: {key!r} is neither a name pattern nor a module type.")


def _owner(assignments: Mapping[str, Assignment], name: str) -> str:
    """The parameter that a tied or derived one follows."""
    a = assignments[name]
    if a.action in {Action.TIED, Action.DERIVED} and a.tied_to is not None:
        return _owner(assignments, a.tied_to)
    return name


def _overridden(
    before: Assignment, chosen: Scheme | None, label: str, obstacle: str | None
) -> Assignment:
    if chosen is None:
        return replace(
            before,
            scheme=None,
            std=None,
            action=Action.KEEP,
            zero_rows=(),
            reason=f"kept: your override for {label!r}",
            evidence=(),
        )
    if obstacle is not None:
        raise PlanError(
            f"overrides[{label!r}] matches {before.parameter!r}: {obstacle}. Leave it out."
        )
    try:
        std = expected_std(chosen, before.shape, before.axes, before.zero_rows)
    except FaninError as error:
        raise PlanError(
            f"overrides[{label!r}] matches {before.parameter!r}, which it cannot draw: {error}"
        ) from error
    return replace(
        before,
        scheme=chosen,
        std=std,
        action=Action.INITIALISE,
        reason=f"your override for {label!r}",
        evidence=(),
    )


def keep_tensors(
    assignments: dict[str, Assignment], keep: Keep, names: Names
) -> tuple[dict[str, Assignment], tuple[str, ...]]:
    """Assignments with the named tensors kept, and a note on a state dict's foreign keys.

    Patterns must each match a parameter, buffer or module; of a state dict at least one key must.

    Raises:
        UnknownNameError: a pattern, or every key of a state dict, matches nothing.
    """
    made = dict(assignments)
    notes: tuple[str, ...] = ()
    if isinstance(keep, Mapping | KeysView):
        keys = [str(key) for key in keep]
        matched = [key for key in keys if names.named(key) == [key] or key in names.aliases]
        foreign = [key for key in keys if key not in matched]
        if keys and not matched:
            raise names.unmatched("keep", keys[0])
        if foreign:
            shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
            notes = (f"keep: {len(foreign)} keys are not in this model: {shown}",)
        chosen = [(key, name) for key in matched for name in names.named(key)]
    else:
        chosen = []
        for pattern in [keep] if isinstance(keep, str) else keep:
            found = names.named(pattern) or names.under(pattern)
            if not found:
                raise names.unmatched("keep", pattern)
            chosen += [(pattern, name) for name in found]
    for pattern, name in chosen:
        if name in made:  # buffers are never drawn
            owner = _owner(made, name)
            reason = "kept: in keep" if pattern == name else f"kept: {pattern!r} in keep"
            made[owner] = replace(
                made[owner],
                scheme=None,
                std=None,
                action=Action.KEEP,
                zero_rows=(),
                reason=reason,
                evidence=(),
            )
    return made, notes
