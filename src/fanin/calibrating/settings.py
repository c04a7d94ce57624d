"""What every data-driven recipe checks of its settings."""

from math import isfinite

from fanin.errors import PlanError


def require_setting(
    recipe: object, name: str, value: object, *, above: float, whole: bool = False
) -> None:
    """Raise PlanError unless a setting is a finite number above a bound."""
    kinds = int if whole else int | float
    number = isinstance(value, kinds) and not isinstance(value, bool) and isfinite(value)
    if not number or not value > above:  # type: ignore[operator]
        kind = "whole number" if whole else "number"
        raise PlanError(
            f"{type(recipe).__name__}: {name}={value!r} must be a {kind} above {above:g}."
        )
