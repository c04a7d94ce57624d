"""``--data``: a batch, and the recipe that may need its targets."""

from typing import Any

from fanin.cli.target import call_target, load_target
from fanin.errors import TargetError


def read_batch(data: str | None, inputs: Any) -> tuple[Any, Any]:
    """(inputs, target) from ``--data``, or the inputs alone.

    Raises:
        TargetError: what ``--data`` names is no such pair.
    """
    if data is None:
        return inputs, None
    value = load_target(data)
    made = call_target(data, value) if callable(value) else value
    if not isinstance(made, tuple) or len(made) != 2:
        raise TargetError(f"--data {data!r} must give (inputs, target), not {type(made).__name__}.")
    return made


def recipe_for(name: str, target: Any) -> Any:
    """The recipe of that name; one that measures is told the target."""
    from fanin.planning import RECIPES
    from fanin.planning.recipe import DataRecipe

    recipe = RECIPES[name] if target is not None and name in RECIPES else name
    return recipe.with_target(target, None) if isinstance(recipe, DataRecipe) else recipe
