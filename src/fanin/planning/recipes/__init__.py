"""Recipes: how a whole model is initialised.  One file each, found by discovery.

A file in this folder that defines ``RECIPE``, a ``fanin.planning.recipe.Recipe``, is a recipe.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

from fanin.planning.recipe import Recipe


class _Recipes(Mapping[str, Recipe]):
    """Name -> recipe; the files are read on first use."""

    def __init__(self) -> None:
        self._found: dict[str, Recipe] | None = None

    def _all(self) -> dict[str, Recipe]:
        if self._found is None:
            found: dict[str, Recipe] = {}
            for info in iter_modules(__path__):
                recipe = getattr(import_module(f"{__name__}.{info.name}"), "RECIPE", None)
                if isinstance(recipe, Recipe):
                    found[recipe.name] = recipe
            # "auto" first, the rest by name: the order in which they are listed.
            self._found = dict(sorted(found.items(), key=lambda item: (item[0] != "auto", item[0])))
        return self._found

    def __getitem__(self, name: str) -> Recipe:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


RECIPES: Mapping[str, Recipe] = _Recipes()
"""Every recipe by name."""
