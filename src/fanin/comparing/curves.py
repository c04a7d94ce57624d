"""Curves of a study: mean over seeds, with a band, at every step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fanin.comparing.scores import best_rate
from fanin.comparing.statistics import t_interval
from fanin.comparing.trial import Trial


@dataclass(frozen=True)
class Curve:
    """Mean over seeds and its 95 % interval at each step.

    Args:
        steps: number of updates made before each value.
        mean, low, high: NaN where no seed has a finite value; low and high NaN for one seed.
        seeds: seeds behind each value: fewer once some have diverged.
    """

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class RecipeCurves:
    """The curves of one recipe at its best learning rate; empty where nothing was measured."""

    model: str
    recipe: str
    learning_rate: float
    loss: Curve
    accuracy: Curve
    held_out_loss: Curve
    held_out_accuracy: Curve
    gradient_norms: Mapping[str, Curve]
    """Weight name -> L2 norm of its gradient."""


def curves_of(trials: Sequence[Trial]) -> dict[str, dict[str, RecipeCurves]]:
    """Network -> recipe -> its curves."""
    grouped: dict[str, dict[str, list[Trial]]] = {}
    for trial in trials:
        grouped.setdefault(trial.model, {}).setdefault(trial.recipe, []).append(trial)
    return {
        model: {recipe: _recipe_curves(model, recipe, ts) for recipe, ts in recipes.items()}
        for model, recipes in grouped.items()
    }


def _recipe_curves(model: str, recipe: str, trials: Sequence[Trial]) -> RecipeCurves:
    rate = best_rate(trials)
    chosen = [t for t in trials if t.learning_rate == rate]
    weights = dict.fromkeys(name for t in chosen for name in t.gradient_norms)

    def plain(series: Sequence[Sequence[float]]) -> Curve:
        return _curve([dict(enumerate(values)) for values in series])

    def held_out(series: Sequence[Sequence[float]]) -> Curve:
        pairs = zip(chosen, series, strict=True)
        return _curve([dict(zip(t.held_out_steps, v, strict=False)) for t, v in pairs])

    return RecipeCurves(
        model=model,
        recipe=recipe,
        learning_rate=rate,
        loss=plain([t.losses for t in chosen]),
        accuracy=plain([t.accuracies for t in chosen]),
        held_out_loss=held_out([t.held_out_losses for t in chosen]),
        held_out_accuracy=held_out([t.held_out_accuracies for t in chosen]),
        gradient_norms={
            name: _curve(
                [
                    dict(zip(t.gradient_steps, t.gradient_norms.get(name, ()), strict=False))
                    for t in chosen
                ]
            )
            for name in weights
        },
    )


def _curve(series: Sequence[Mapping[int, float]]) -> Curve:
    steps = sorted({step for values in series for step in values})
    points = []
    for step in steps:
        values = [v[step] for v in series if step in v and math.isfinite(v[step])]
        points.append(t_interval(values))
    return Curve(
        tuple(steps),
        tuple(p.mean for p in points),
        tuple(p.low for p in points),
        tuple(p.high for p in points),
        tuple(p.n for p in points),
    )
