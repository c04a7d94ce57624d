"""One number a trial: what recipes are compared by, and how a run that diverged counts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fanin.comparing.trial import Trial


@dataclass(frozen=True)
class Metric:
    """Something that a trial ends with.

    Args:
        name: in the API.
        title: in tables.
        higher_is_better: or lower.
        read: the value of a finished trial; NaN where it was not measured.
        start: the value before training; likewise.
    """

    name: str
    title: str
    higher_is_better: bool
    read: Callable[[Trial], float]
    start: Callable[[Trial], float]

    def better(self, first: float, second: float) -> bool:
        """Whether ``first`` is strictly better than ``second``."""
        return first > second if self.higher_is_better else first < second


def _at(values: Sequence[float], index: int) -> float:
    return values[index] if values else math.nan


METRICS: Mapping[str, Metric] = {
    "held_out_accuracy": Metric(
        "held_out_accuracy",
        "held-out accuracy",
        True,
        lambda t: _at(t.held_out_accuracies, -1),
        lambda t: _at(t.held_out_accuracies, 0),
    ),
    "held_out_loss": Metric(
        "held_out_loss",
        "held-out loss",
        False,
        lambda t: _at(t.held_out_losses, -1),
        lambda t: _at(t.held_out_losses, 0),
    ),
    "final_loss": Metric(
        "final_loss",
        "final training loss",
        False,
        lambda t: t.final_loss,
        lambda t: _at(t.losses, 0),
    ),
}


def default_metric(trials: Sequence[Trial]) -> Metric:
    """Held-out accuracy where there are classes, else held-out loss, else final training loss.

    Learning rates are chosen by the training loss, so the held-out data judges what it did not
    help to choose.
    """
    if any(t.held_out_accuracies for t in trials):
        return METRICS["held_out_accuracy"]
    if any(t.held_out_losses for t in trials):
        return METRICS["held_out_loss"]
    return METRICS["final_loss"]


def scores(trials: Sequence[Trial], metric: Metric) -> dict[tuple[str, float, int], float]:
    """(recipe, learning rate, seed) -> value, for the trials of one network.

    A trial that diverged counts as the worst value that any trial of this network started or
    ended with (worst-rank scores, Lachin 1999).  Dropping it would reward a recipe for failing.
    """
    finished = [metric.read(t) for t in trials if not t.diverged]
    seen = [v for v in (*finished, *map(metric.start, trials)) if math.isfinite(v)]
    worst = (min(seen) if metric.higher_is_better else max(seen)) if seen else math.nan
    values = {}
    for trial in trials:
        value = math.nan if trial.diverged else metric.read(trial)
        # A held-out loss may overflow where the training loss did not.
        values[trial.recipe, trial.learning_rate, trial.seed] = (
            value if math.isfinite(value) else worst
        )
    return values


def restricted_steps(trial: Trial, target: float, steps: int) -> float:
    """Steps to the target loss, or all ``steps`` where it was not reached.

    The mean of these is the restricted mean time to the target: trials that never get there,
    diverged ones among them, count in full instead of being left out.
    """
    reached = trial.steps_to(target)
    return float(steps if reached is None else reached)


def best_rate(trials: Sequence[Trial]) -> float:
    """The learning rate that ended lowest, among the trials of one recipe on one network.

    Fewest diverged seeds first, then the lowest mean final training loss; the smaller rate if
    equal.  The held-out data has no part in it.
    """
    by_rate: dict[float, list[float]] = {}
    for trial in trials:
        by_rate.setdefault(trial.learning_rate, []).append(trial.final_loss)

    def rank(rate: float) -> tuple[int, float, float]:
        finite = [loss for loss in by_rate[rate] if math.isfinite(loss)]
        mean = math.fsum(finite) / len(finite) if finite else math.inf
        return len(by_rate[rate]) - len(finite), mean, rate

    return min(by_rate, key=rank)
