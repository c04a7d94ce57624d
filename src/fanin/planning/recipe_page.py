"""The page of all recipes, in Markdown, from what the recipes say of themselves."""

from fanin.planning.recipe import DataRecipe, GraphUse, Recipe
from fanin.planning.recipes import RECIPES

_HEAD = """\
# Recipes

A recipe says how a whole model is initialised. `fanin.plan(model, inputs, "gpt2")` shows what it
would do, `fanin.initialize(model, inputs, "gpt2")` does it. Every scheme is a recipe too: the name
`"kaiming_normal"` or `"normal_0.02"` puts that scheme on every layer weight; norm scales 1, biases
0.

Recipes that take a batch measure on it: the numbers of a base recipe are drawn into tensors that
stand in the model's place while it runs, and what is measured becomes factors in the plan, which is
applied again without data (with the seed that it was measured with). Frozen and kept tensors, and
those that an override names, are never scaled. The values `fanin.recipes.LSUV(…)` and so on carry
settings and targets.

This page is written by `fanin.planning.recipe_page.recipes_markdown()`; a test compares the two.

| recipe | what it does | inputs |
|---|---|---|
"""

_TAIL = """
## A recipe of your own

A file in `src/fanin/planning/recipes/` that defines `RECIPE` is a recipe; nothing else has to be
changed. Its `decide` takes a `Subject` (one parameter: name, shape, role, fans, module) and the
`Circumstances` (all of them, the recorded graph, the model's settings), and returns a `Decision`.
Outside of the package the same value works as it is: `fanin.plan(model, inputs, my_recipe)`.

A recipe that measures is a frozen dataclass over `fanin.recipes.DataRecipe`, one file in
`src/fanin/calibrating/` that defines `RECIPE`: it names a base recipe, and its `calibrate` turns
the plan of that one into another with measured factors (`fanin.schemes.Scaled`).
"""

_INPUTS = {
    GraphUse.NEEDED: "needed",
    GraphUse.USED: "optional",
    GraphUse.IGNORED: "not read",
    GraphUse.MEASURED: "a batch",
}


def recipes_markdown() -> str:
    """The text of ``docs/recipes.md``."""
    rows = "".join(
        f"| [`{r.name}`](#{r.name}) | {r.summary} | {_INPUTS[r.graph]} |\n"
        for r in RECIPES.values()
    )
    return _HEAD + rows + "".join(_section(r) for r in RECIPES.values()) + _TAIL


def _section(recipe: Recipe | DataRecipe) -> str:
    paper = f"\n\nFrom: {recipe.paper}." if recipe.paper else ""
    return f"\n## {recipe.name}\n\n{recipe.docs}{paper}\n"
