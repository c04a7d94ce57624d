"""Recipes: how a whole model is initialised.  One file each, found by discovery.

A file in this folder, or in that of the recipes that measure, is a recipe if it defines ``RECIPE``:
a ``Recipe`` or a ``DataRecipe`` of ``fanin.planning.recipe``.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

from fanin.planning.recipe import DataRecipe, Recipe

_MEASURING = "fanin.calibrating"
"""Recipes that measure run models, so they stand above planning and are known here by name."""


class _Recipes(Mapping[str, Recipe | DataRecipe]):
    """Name -> recipe; the files are read on first use."""

    def __init__(self) -> None:
        self._found: dict[str, Recipe | DataRecipe] | None = None

    def _all(self) -> dict[str, Recipe | DataRecipe]:
        if self._found is None:
            found: dict[str, Recipe | DataRecipe] = {}
            for package, path in ((__name__, __path__), _package(_MEASURING)):
                for info in iter_modules(path):
                    recipe = getattr(import_module(f"{package}.{info.name}"), "RECIPE", None)
                    if isinstance(recipe, Recipe | DataRecipe):
                        found[recipe.name] = recipe
            # "auto" first, the rest by name: the order in which they are listed.
            self._found = dict(sorted(found.items(), key=lambda item: (item[0] != "auto", item[0])))
        return self._found

    def __getitem__(self, name: str) -> Recipe | DataRecipe:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _package(name: str) -> tuple[str, Iterable[str]]:
    return name, import_module(name).__path__


RECIPES: Mapping[str, Recipe | DataRecipe] = _Recipes()
"""Every recipe by name."""
