"""Every recipe by name, and those that take settings, as values.

``fanin.initialize(model, batch, "lsuv")`` is ``fanin.initialize(model, batch, LSUV())``;
``GradInit(target=y, learning_rate=0.05)`` carries what a name cannot.
"""

from fanin.calibrating.grad_init import GradInit
from fanin.calibrating.lsuv import LSUV
from fanin.calibrating.meta_init import MetaInit
from fanin.calibrating.weight_norm import WeightNorm
from fanin.planning.recipe import DataRecipe, Decision, GraphUse, Recipe, leave
from fanin.planning.recipes import RECIPES

__all__ = [
    "LSUV",
    "RECIPES",
    "DataRecipe",
    "Decision",
    "GradInit",
    "GraphUse",
    "MetaInit",
    "Recipe",
    "WeightNorm",
    "leave",
]
