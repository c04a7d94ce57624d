"""A study, read: its models, recipes and layers in order, and the trials behind each curve."""

from collections.abc import Sequence
from dataclasses import dataclass

from fanin.comparing.scores import best_rate
from fanin.comparing.study import LayerSnapshot, Study, Trial
from fanin.errors import unknown_name
from fanin.reporting.palette import Look, looks


def models(study: Study) -> tuple[str, ...]:
    """Names of the networks, in order of first appearance."""
    return tuple(dict.fromkeys(trial.model for trial in study.trials))


def recipes(study: Study, model: str | None = None) -> tuple[str, ...]:
    """Names of the recipes (of one model), in the order that the study was asked for."""
    present = dict.fromkeys(
        trial.recipe for trial in study.trials if model is None or trial.model == model
    )
    asked = study.settings.get("recipes")
    ordered = [str(r) for r in asked] if isinstance(asked, Sequence) else []
    return tuple(dict.fromkeys([*(r for r in ordered if r in present), *present]))


def chosen_model(study: Study, model: str | None) -> str | None:
    """The model asked for, or the first; None for a study without trials.

    Raises:
        UnknownNameError: the study has no such model.
    """
    known = models(study)
    if model is None:
        return known[0] if known else None
    if model not in known:
        raise unknown_name("model", model, known, "study.trials")
    return model


def chosen_recipes(study: Study, model: str | None, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The recipes asked for, or all of the model's.

    Raises:
        UnknownNameError: the study has no such recipe.
    """
    known = recipes(study, model)
    for name in asked or ():
        if name not in known:
            raise unknown_name("recipe", name, known, "study.trials")
    return known if asked is None else tuple(asked)


def layers(study: Study, model: str | None) -> tuple[str, ...]:
    """Weight names of the layers with a snapshot, in the order of the network."""
    return tuple(
        dict.fromkeys(
            snapshot.weight
            for trial in study.trials
            if trial.model == model
            for snapshot in trial.layers
        )
    )


def chosen_layer(study: Study, model: str | None, layer: str | None) -> str | None:
    """The layer asked for, or the first; None where no snapshot was taken.

    Raises:
        UnknownNameError: there is no such layer.
    """
    known = layers(study, model)
    if layer is None:
        return known[0] if known else None
    if layer not in known:
        raise unknown_name("layer", layer, known, "study.trials[0].layers")
    return layer


def snapshots(trials: Sequence[Trial], layer: str | None) -> list[LayerSnapshot]:
    """The snapshot of one layer in each of the trials that has it."""
    return [s for trial in trials for s in trial.layers if s.weight == layer]


@dataclass(frozen=True)
class Case:
    """One recipe of one model: how it is drawn, and its trials, one per seed."""

    recipe: str
    look: Look
    trials: tuple[Trial, ...]


def cases(study: Study, model: str | None, asked: Sequence[str] | None = None) -> list[Case]:
    """Every recipe of a model (or those asked for) with its look and its trials.

    Where several learning rates were tried, the trials are those at the recipe's best one.
    """
    appearance = looks(recipes(study))
    return [
        Case(recipe, appearance[recipe], trials_at_best_rate(study, model, recipe))
        for recipe in chosen_recipes(study, model, asked)
    ]


def trials_at_best_rate(study: Study, model: str | None, recipe: str) -> tuple[Trial, ...]:
    """The trials of a recipe at the learning rate that the summary shows, in order of seed."""
    found = [t for t in study.trials if t.model == model and t.recipe == recipe]
    if not found:
        return ()
    rate = best_rate(found)
    return tuple(sorted((t for t in found if t.learning_rate == rate), key=lambda t: t.seed))
