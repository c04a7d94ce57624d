"""The recipes of a study: a label, and what ``fanin.initialize`` takes."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from fanin.comparing.digits import RECIPES
from fanin.errors import DataError


@dataclass(frozen=True)
class Arm:
    """One recipe as the study knows it.

    Args:
        label: its name in tables and legends.
        recipe: a recipe's or scheme's name, a scheme, a plan, or a function of a module.
        key: text that changes when the recipe does; part of the digest of a trial.
    """

    label: str
    recipe: Any = field(compare=False)
    key: str


def read_recipes(recipes: Any) -> tuple[Arm, ...]:
    """The arms that the argument ``recipes`` means, in its order.

    Args:
        recipes: None for the built-in seven, one recipe, a sequence of them, or label -> recipe.

    Raises:
        DataError: none at all, or two with one label.
    """
    if recipes is None:
        recipes = RECIPES
    if isinstance(recipes, Mapping) and not _is_plan(recipes):
        arms = tuple(Arm(str(label), r, key_of(r)) for label, r in recipes.items())
    else:
        listed = (
            recipes
            if isinstance(recipes, Sequence) and not isinstance(recipes, str)
            else (recipes,)
        )
        arms = tuple(Arm(_label(r), r, key_of(r)) for r in listed)
    if not arms:
        raise DataError("recipes: none given. Name at least one, such as 'kaiming_normal'.")
    labels = [arm.label for arm in arms]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise DataError(
            f"recipes: {twice!r} occurs twice. Give each once, or tell them apart with a dict "
            "label -> recipe."
        )
    return arms


def key_of(value: Any) -> str:
    """Text that stays the same from run to run, and changes when the value does.

    A function is known by its source and the plain values it closes over.
    """
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    if not callable(value) or isinstance(value, type):
        text = repr(value)
        # The default repr holds an address, which differs from run to run.
        return text if " at 0x" not in text else type(value).__qualname__
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):
        source = ""
    cells = [c.cell_contents for c in getattr(value, "__closure__", None) or () if _filled(c)]
    plain = [repr(c) for c in cells if isinstance(c, str | int | float | bool | tuple | None)]
    name = getattr(value, "__qualname__", type(value).__qualname__)
    digest = blake2b(f"{source}{plain}".encode(), digest_size=8).hexdigest()
    return f"{name}:{digest}"


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - reading it is the test
    except ValueError:
        return False
    return True


def _label(recipe: Any) -> str:
    if isinstance(recipe, str):
        return recipe
    if _is_plan(recipe):
        return f"plan {recipe.recipe}"
    return str(getattr(recipe, "__name__", None) or repr(recipe))


def _is_plan(value: Any) -> bool:
    from fanin.planning.assignment import Plan

    return isinstance(value, Plan)
