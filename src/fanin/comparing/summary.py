"""The summary of a study: a table per network, and who wins in plain words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fanin.comparing.scores import (
    METRICS,
    Metric,
    best_rate,
    default_metric,
    restricted_steps,
    scores,
)
from fanin.comparing.statistics import Comparison, Interval, compare_all_pairs, t_interval
from fanin.comparing.trial import Trial
from fanin.errors import unknown_name

BEST = "best"
NOT_DIFFERENT = "no significant difference"
WORSE = "worse"
UNKNOWN = "one seed: no verdict"


@dataclass(frozen=True)
class Row:
    """One recipe on one network, at its best learning rate.

    Args:
        recipe: its name.
        learning_rate: the one of the grid with the lowest mean final training loss.
        seeds: number of seeds.
        score: mean and interval of the metric that decides; diverged trials count as the worst.
        final_loss: of the training loss over the last tenth of the steps; likewise.
        held_out_accuracy: None where there are no classes or no held-out data.
        held_out_loss: None where there is no held-out data.
        steps_to_target: restricted mean: a trial that never gets there counts all its steps.
            None where the study has no target.
        reached: seeds that reached the target.
        diverged: seeds whose loss became NaN or infinite.
        difference: from the best recipe, paired by seed; None for the best itself.
        p: of that difference, corrected for all pairs (Holm); None likewise or with one seed.
        verdict: "best", "no significant difference", "worse", or that one seed says nothing.
    """

    recipe: str
    learning_rate: float
    seeds: int
    score: Interval
    final_loss: Interval
    held_out_accuracy: Interval | None
    held_out_loss: Interval | None
    steps_to_target: Interval | None
    reached: int
    diverged: int
    difference: Interval | None
    p: float | None
    verdict: str


@dataclass(frozen=True)
class ModelSummary:
    """The comparison on one network.

    Args:
        model: its name.
        metric: name of what decides.
        target_loss: the training loss that counts as converged; None for none.
        best: the recipe with the best mean.
        winner: the best recipe, if it is significantly better than every other; else None.
        rows: one a recipe, in the study's order.
        comparisons: all pairs of recipes.
        sentence: who wins, in words.
    """

    model: str
    metric: str
    target_loss: float | None
    best: str
    winner: str | None
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    sentence: str


@dataclass(frozen=True)
class Summary:
    """All of a study in a few lines; ``str()`` is a plain table."""

    models: tuple[ModelSummary, ...]
    sentence: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        from fanin.comparing.summary_table import summary_text

        return summary_text(self)

    def __getitem__(self, model: str) -> ModelSummary:
        for summary in self.models:
            if summary.model == model:
                return summary
        raise unknown_name("model", model, (m.model for m in self.models), "summary.models")


def summarise(
    trials: Sequence[Trial],
    *,
    metric: str | None = None,
    steps: int | None = None,
    targets: Mapping[str, float | None] | None = None,
    notes: Sequence[str] = (),
) -> Summary:
    """Summarise the trials of a study.

    Args:
        trials: of any number of networks, recipes, rates and seeds.
        metric: a name of ``METRICS``; None for the one that fits the data.
        steps: updates of a whole trial; None for the longest one's.
        targets: network -> training loss that counts as converged.
        notes: shown below the table.

    Raises:
        UnknownNameError: an unknown metric.
    """
    if metric is not None and metric not in METRICS:
        raise unknown_name("metric", metric, METRICS, "fanin.comparing.METRICS")
    if not trials:
        return Summary((), "No trial is finished yet.", tuple(notes))
    models = []
    for model in dict.fromkeys(t.model for t in trials):
        own = [t for t in trials if t.model == model]
        chosen = METRICS[metric] if metric else default_metric(own)
        length = steps or max(len(t.losses) for t in own)
        models.append(_summarise_model(own, chosen, length, (targets or {}).get(model)))
    return Summary(tuple(models), " ".join(m.sentence for m in models), tuple(notes))


def _summarise_model(
    trials: Sequence[Trial], metric: Metric, steps: int, target: float | None
) -> ModelSummary:
    recipes = list(dict.fromkeys(t.recipe for t in trials))
    rates = {r: best_rate([t for t in trials if t.recipe == r]) for r in recipes}
    arms = {
        r: sorted(
            (t for t in trials if t.recipe == r and t.learning_rate == rates[r]),
            key=lambda t: t.seed,
        )
        for r in recipes
    }

    def by_seed(of: Metric) -> dict[str, dict[int, float]]:
        every = scores(trials, of)
        return {r: {t.seed: every[r, rates[r], t.seed] for t in arms[r]} for r in recipes}

    deciding = by_seed(metric)
    # On equal means the earlier in the study's order, so that the answer never depends on chance.
    best = recipes[0]
    means = {r: t_interval(list(v.values())) for r, v in deciding.items()}
    for recipe in recipes[1:]:
        if metric.better(means[recipe].mean, means[best].mean):
            best = recipe
    comparisons = compare_all_pairs(trials[0].model, metric.name, deciding)
    columns = {name: by_seed(METRICS[name]) for name in METRICS}
    rows = tuple(
        _row(arms[r], rates[r], best, means[r], comparisons, columns, steps, target)
        for r in recipes
    )
    others = [row for row in rows if row.recipe != best]
    winner = best if others and all(row.verdict == WORSE for row in others) else None
    from fanin.comparing.sentences import model_sentence

    sentence = model_sentence(trials[0].model, metric, best, winner, rows, target)
    return ModelSummary(
        trials[0].model, metric.name, target, best, winner, rows, comparisons, sentence
    )


def _row(
    trials: Sequence[Trial],
    rate: float,
    best: str,
    score: Interval,
    comparisons: Sequence[Comparison],
    columns: Mapping[str, Mapping[str, Mapping[int, float]]],
    steps: int,
    target: float | None,
) -> Row:
    recipe = trials[0].recipe

    def column(name: str) -> Interval | None:
        values = list(columns[name][recipe].values())
        return None if any(math.isnan(v) for v in values) else t_interval(values)

    difference, p, verdict = None, None, BEST
    if recipe != best:
        pair = next(c for c in comparisons if {c.first, c.second} == {recipe, best})
        difference = pair.difference if pair.first == recipe else _reversed(pair.difference)
        p = None if math.isnan(pair.p_holm) else pair.p_holm
        verdict = UNKNOWN if p is None else WORSE if pair.significant else NOT_DIFFERENT
    final_loss = column("final_loss")
    return Row(
        recipe=recipe,
        learning_rate=rate,
        seeds=len(trials),
        score=score,
        final_loss=final_loss or t_interval([math.nan]),
        held_out_accuracy=column("held_out_accuracy"),
        held_out_loss=column("held_out_loss"),
        steps_to_target=(
            None
            if target is None
            else t_interval([restricted_steps(t, target, steps) for t in trials])
        ),
        reached=sum(t.steps_to(target) is not None for t in trials) if target is not None else 0,
        diverged=sum(t.diverged for t in trials),
        difference=difference,
        p=p,
        verdict=verdict,
    )


def _reversed(interval: Interval) -> Interval:
    return Interval(-interval.mean, -interval.high, -interval.low, interval.n, interval.level)
