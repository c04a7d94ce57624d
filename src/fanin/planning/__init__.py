"""Decide what every parameter of a model gets: recipes, overrides, plans."""

from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.comparison import Deviation, compare_with_tensors
from fanin.planning.plan_diff import Change, PlanDiff
from fanin.planning.plan_table import PlanRow, fold_plan
from fanin.planning.planner import plan
from fanin.planning.recipe import Decision, GraphUse, Recipe
from fanin.planning.recipes import RECIPES
from fanin.planning.subject import Circumstances, Subject

__all__ = [
    "RECIPES",
    "Action",
    "Assignment",
    "Change",
    "Circumstances",
    "Decision",
    "Deviation",
    "GraphUse",
    "Plan",
    "PlanDiff",
    "PlanRow",
    "Recipe",
    "Subject",
    "compare_with_tensors",
    "fold_plan",
    "plan",
]
