"""``plan``: decide what every parameter of a model gets, without touching one of them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fanin.errors import PlanError, UnknownNameError, unknown_name
from fanin.graph.graph import Graph
from fanin.graph.recording import record
from fanin.planning.assigning import (
    absent,
    assign,
    check_fits,
    complete,
    explain_followers,
    frozen,
    parametrised_weights_of,
)
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.matching import Names
from fanin.planning.overrides import Keep, Overrides, keep_tensors, override
from fanin.planning.reading import ModelReading, read_model
from fanin.planning.recipe import DataRecipe, Decision, GraphUse, Recipe, leave
from fanin.planning.recipes import RECIPES
from fanin.planning.recipes.one_scheme import one_scheme
from fanin.planning.subject import Circumstances
from fanin.schemes import SCHEMES, scheme
from fanin.schemes.scheme import Scheme

AnyRecipe = str | Scheme | Recipe | DataRecipe | Plan | Callable[..., Any]


def plan(
    model: nn.Module,
    inputs: Any = None,
    recipe: AnyRecipe = "auto",
    *,
    overrides: Overrides | None = None,
    keep: Keep = (),
    seed: int = 0,
) -> Plan:
    """Decide what every parameter of a model gets, and why.  Draws nothing into it.

    Frozen parameters (``requires_grad=False``) are kept, whatever the recipe; an override that
    names one initialises it.

    Args:
        model: any module, also on the meta device.
        inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments for
            ``model(...)``; the model is run once on them and handed back as it was.  Optional for
            recipes that need no graph: ``"torch"``, ``"shipped"``, any scheme, a plan,
            ``f(module)``.
        recipe: the name of a recipe (``fanin.RECIPES``) or scheme (``fanin.SCHEMES``, also
            ``"normal_0.01"``), a scheme, a recipe value, a plan, a function ``f(module)`` that
            ``apply`` runs over every module as ``model.apply`` does, or a function whose first
            parameter is named ``graph``: it is given the recorded graph (and the roles, where it
            takes a second argument) and returns parameter name -> scheme, name of one,
            ``Assignment`` or None to leave it, or a whole plan.
        overrides: ``{"decoder.*.weight": Normal(std=0.02), nn.LayerNorm: "ones"}``.
            A key is a parameter name or a pattern of names (``fnmatch``), else a module path or
            pattern of paths, or a module type.  Names and patterns of names mean exactly the
            parameters that match.  A module path or type means everything below it that is not a
            bias, or, for None, everything.  The value None keeps the tensors.  Later keys win.
        keep: names or patterns of parameters, buffers or modules, or a state dict (or its keys):
            those tensors stay byte for byte, whatever ``overrides`` say.
        seed: of the numbers with which a data-driven recipe (``"lsuv"``, ``"gradinit"``, …)
            measures; apply its plan with the same one.  Other recipes draw nothing.

    Raises:
        PlanError: the model, recipe and arguments do not fit together.
        UnknownNameError: a recipe, scheme, override or kept name that does not exist.
        RecordError: the model cannot be run on ``inputs``.
    """
    return plan_from(record, model, inputs, recipe, overrides=overrides, keep=keep, seed=seed)


def plan_from(
    graph_of: Callable[[nn.Module, Any], Graph],
    model: nn.Module,
    inputs: Any = None,
    recipe: AnyRecipe = "auto",
    *,
    overrides: Overrides | None = None,
    keep: Keep = (),
    seed: int = 0,
) -> Plan:
    """``plan``, for callers that need the recording themselves.

    ``graph_of`` stands for ``fanin.record``; it is called at most once, with the model and the
    inputs, and only if the recipe needs a graph.
    """
    reading = read_model(model)  # before the run: a class in the place of a model is told here
    chosen = find_recipe(recipe)
    measuring: DataRecipe | None = None
    if isinstance(chosen, DataRecipe):
        measuring, chosen = chosen, _base_of(chosen, model, inputs)
    advice: tuple[str, ...] = ()
    function: Callable[[nn.Module], object] | None = None
    failed: dict[str, PlanError] = {}
    if isinstance(chosen, Plan):
        check_fits(chosen, reading.parameters, reading.circumstances.model_type)
        name, advice, function = chosen.recipe, chosen.advice, chosen.module_function
        decided = {n: chosen[n] for n in reading.parameters if n in chosen}
        missing = [n for n in reading.circumstances.subjects if n not in chosen]
        decided |= {n: absent(reading.circumstances.subjects[n]) for n in missing}
    elif isinstance(chosen, Recipe):
        name = chosen.name
        graph = _graph_for(chosen, model, inputs, graph_of)
        if graph is not None:
            reading = read_model(model, graph)
        decided, failed = _decide(chosen, reading)
        advice = chosen.advise(reading.circumstances)
    elif _takes_graph(chosen):
        name = _function_name(chosen)
        if inputs is None:
            raise PlanError(f"the recipe {name} takes a graph: pass inputs to run the model on.")
        graph = graph_of(model, inputs)
        reading = read_model(model, graph)
        result = _call_with_graph(chosen, name, graph, reading)
        if isinstance(result, Plan):
            check_fits(result, reading.parameters, reading.circumstances.model_type)
            advice = result.advice
        decided = _from_mapping(result, name, reading)
    else:
        name, function = _function_name(chosen), chosen
        run = Recipe(name, "", "", lambda s, c: leave(f"left to {name}(module)"))
        decided, failed = _decide(run, reading)
    made = complete(decided, reading)
    names = Names(
        reading.parameters,
        reading.buffers,
        {w.effective: w.carrier for w in parametrised_weights_of(reading)},
        model,
    )
    made = override(made, overrides or {}, names, reading.undrawable)
    made, notes = keep_tensors(made, keep, names)
    for parameter, error in failed.items():
        if made[parameter] is decided[parameter]:
            raise error
    if made and all(a.action in {Action.KEEP, Action.TIED} for a in made.values()) and not keep:
        notes = (*notes, "every parameter is frozen or kept: apply will change nothing")
    made = explain_followers(made)
    whole = Plan(name, reading.circumstances.model_type, made, function, (*advice, *notes))
    if measuring is None:
        return whole
    free = [n for n, a in decided.items() if a is made[n] and a.action is Action.INITIALISE]
    whole = replace(whole, recipe=measuring.label)
    with torch.inference_mode(mode=False):
        return measuring.calibrate(whole, model, inputs, free, seed)


def find_recipe(recipe: AnyRecipe) -> Recipe | DataRecipe | Plan | Callable[..., Any]:
    """The recipe, plan or function that ``plan`` was given, names resolved."""
    if isinstance(recipe, Recipe | DataRecipe | Plan):
        return recipe
    if isinstance(recipe, Scheme):
        return one_scheme(recipe)
    if isinstance(recipe, str):
        if recipe in RECIPES:
            return RECIPES[recipe]
        try:
            return one_scheme(scheme(recipe), recipe)
        except UnknownNameError:
            known = (*RECIPES, *SCHEMES)
            raise unknown_name("recipe", recipe, known, "fanin recipes") from None
    if callable(recipe) and not isinstance(recipe, type):
        return recipe
    raise PlanError(
        f"recipe is a {type(recipe).__name__}. Give the name of a recipe or scheme, a scheme, "
        "a plan or a function."
    )


def _base_of(recipe: DataRecipe, model: nn.Module, inputs: Any) -> Recipe | Plan:
    """What a data-driven recipe starts from, once it is seen that it can measure."""
    if inputs is None:
        raise PlanError(
            f"recipe {recipe.name!r} measures on a batch: pass one, as in "
            f"fanin.initialize(model, batch, {recipe.name!r}), or on the command line --data "
            'file.py:batch or --input "float32[64,10]".'
        )
    on_meta = next((n for n, p in model.named_parameters() if p.is_meta), None)
    if on_meta is not None:
        raise PlanError(
            f"{on_meta!r} is on the meta device, and recipe {recipe.name!r} measures on real "
            "tensors. Call model.to_empty(device='cpu') first, or use a recipe that needs no data, "
            "such as 'auto'."
        )
    base = find_recipe(recipe.base)
    if not isinstance(base, Recipe | Plan):
        raise PlanError(
            f"{recipe!r}: its base must be a recipe that names a scheme for every parameter: a "
            "recipe or scheme by name, a scheme, a Recipe or a plan; not one that measures, and "
            "no function."
        )
    if isinstance(base, Plan) and base.module_function is not None:
        raise PlanError(
            f"{recipe!r}: its base is a plan that runs a function over the modules, whose numbers "
            "no factor can scale. Start from a recipe or scheme by name."
        )
    return base


def _graph_for(
    recipe: Recipe,
    model: nn.Module,
    inputs: Any,
    graph_of: Callable[[nn.Module, Any], Graph],
) -> Graph | None:
    if recipe.graph is GraphUse.NEEDED and inputs is None:
        raise PlanError(
            f"recipe {recipe.name!r} reads how each parameter is used: pass inputs to run the "
            f"model on once, as in fanin.plan(model, inputs, {recipe.name!r}), or on the command "
            'line --input "float32[8,64]".'
        )
    if inputs is None or recipe.graph is GraphUse.IGNORED:
        return None
    return graph_of(model, inputs)


def _takes_graph(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # builtins without a signature
        return False
    return bool(parameters) and parameters[0] == "graph"


def _function_name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _call_with_graph(
    function: Callable[..., Any], name: str, graph: Graph, reading: ModelReading
) -> Any:
    two = len(inspect.signature(function).parameters) > 1
    roles = {s.name: s.role for s in reading.circumstances}
    result = function(graph, roles) if two else function(graph)
    if not isinstance(result, Mapping):
        raise PlanError(
            f"the recipe {name} returned a {type(result).__name__}. "
            "Return parameter name -> scheme, or a Plan."
        )
    return result


def _from_mapping(
    result: Mapping[str, Any], name: str, reading: ModelReading
) -> dict[str, Assignment]:
    subjects = reading.circumstances.subjects
    foreign = [key for key in result if key not in reading.parameters]
    if foreign:
        raise unknown_name("parameter", str(foreign[0]), subjects, "print(fanin.plan(...))")
    decided: dict[str, Assignment] = {}
    for subject in subjects.values():
        value = result.get(subject.name)
        if isinstance(value, Assignment):
            decided[subject.name] = value
        elif subject.name in result and value is not None:
            decision = Decision(scheme(value), f"named by {name}", subject.role.evidence)
            decided[subject.name] = assign(subject, decision)
        else:
            decision = leave(f"left: {name} names nothing for it")
            decided[subject.name] = assign(subject, decision)
    return decided


def _decide(
    recipe: Recipe, reading: ModelReading
) -> tuple[dict[str, Assignment], dict[str, PlanError]]:
    """Assignments, and the errors of those that the scheme cannot draw.

    An error counts only if no override and no ``keep`` takes the parameter from the recipe.
    """
    circumstances: Circumstances = reading.circumstances
    decided: dict[str, Assignment] = {}
    failed: dict[str, PlanError] = {}
    for subject in circumstances:
        name = subject.name
        if subject.frozen:
            decided[name] = frozen(subject)
        elif name in reading.undrawable:
            decided[name] = assign(subject, leave(f"left: {reading.undrawable[name]}"))
        else:
            try:
                decided[name] = assign(subject, recipe.decide(subject, circumstances))
            except PlanError as error:
                decided[name] = assign(subject, leave("left: its scheme cannot draw it"))
                failed[name] = error
    return decided, failed
