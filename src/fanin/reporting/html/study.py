"""The report of a study: one page that says what was compared, the answer, and why."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fanin import __version__
from fanin.checking.findings import Severity
from fanin.comparing.sentences import p_value
from fanin.comparing.statistics import Interval
from fanin.comparing.study import Study
from fanin.comparing.summary import ModelSummary
from fanin.reporting.folded_findings import FoldedFinding, fold
from fanin.reporting.html.page import plotly_script, render
from fanin.reporting.html.study_figures import FigureData, ModelFigures, model_figures
from fanin.reporting.html.swatches import Swatch, swatch
from fanin.reporting.numbers import number, percent
from fanin.reporting.outcome import Outcome, leaders, outcomes, ranked, sentence
from fanin.reporting.palette import looks
from fanin.reporting.reading import cases, recipes
from fanin.reporting.settings import described, setting_rows, subject


@dataclass(frozen=True)
class TableRow:
    """One row of the summary table, as text; intervals are (mean, range)."""

    recipe: str
    seeds: int
    diverged: int
    learning_rate: str
    final_loss: tuple[str, str]
    accuracy: tuple[str, str]
    held_out_loss: tuple[str, str]
    steps: tuple[str, str]
    missed: int
    verdict: str
    errors: int
    warnings: int


@dataclass(frozen=True)
class ModelView:
    """What the page shows of one network."""

    name: str
    description: str
    sentence: str
    winner: str | None
    leaders: Sequence[str]
    rows: Sequence[TableRow]
    several_rates: bool
    accuracy: bool
    held_out_loss: bool
    steps_heading: str
    findings: Mapping[str, Sequence[FoldedFinding]]
    figures: ModelFigures


def study_page(study: Study) -> str:
    """The report of a study as one HTML file that needs no network."""
    data = FigureData()
    models = study.summary().models
    views = [_view(study, summary, place, data) for place, summary in enumerate(models)]
    appearance = looks(recipes(study))
    swatches: dict[str, Swatch] = {recipe: swatch(look) for recipe, look in appearance.items()}
    carried: dict[str, Any] = {
        "figures": data.figures,
        "looks": {r: {"light": look.light, "dark": look.dark} for r, look in appearance.items()},
    }
    return render(
        "study.html",
        version=__version__,
        title="Which initialisation trains best?",
        subject=subject(study),
        complete=study.complete,
        views=views,
        looks=swatches,
        data=carried,
        plotly=plotly_script() if views else "",
        command=study.settings.get("command"),
        settings=setting_rows(study),
        notes=study.summary().notes,
    )


def _view(study: Study, summary: ModelSummary, place: int, data: FigureData) -> ModelView:
    model, target = summary.model, summary.target_loss
    rows = ranked(summary, outcomes(study, model))
    return ModelView(
        name=model,
        description=described(study, model),
        sentence=sentence(summary),
        winner=summary.winner,
        leaders=leaders(summary),
        rows=[_row(outcome, target) for outcome in rows],
        several_rates=len({outcome.row.learning_rate for outcome in rows}) > 1,
        accuracy=any(outcome.row.held_out_accuracy for outcome in rows),
        held_out_loss=any(outcome.row.held_out_loss for outcome in rows),
        steps_heading="" if target is None else f"steps to loss {number(target)}",
        findings={
            case.recipe: fold([trial.findings for trial in case.trials])
            for case in cases(study, model)
        },
        figures=model_figures(study, model, place, data),
    )


def _row(outcome: Outcome, target: float | None) -> TableRow:
    row = outcome.row
    steps = row.steps_to_target
    return TableRow(
        recipe=row.recipe,
        seeds=row.seeds,
        diverged=row.diverged,
        learning_rate=f"{row.learning_rate:g}",
        final_loss=_interval(row.final_loss, number),
        accuracy=_interval(row.held_out_accuracy, percent, 0.0, 1.0),
        held_out_loss=_interval(row.held_out_loss, number),
        steps=("never", "") if not row.reached else _interval(steps, number),
        missed=row.seeds - row.reached if target is not None and row.reached else 0,
        verdict=row.verdict if row.p is None else f"{row.verdict} ({p_value(row.p)})",
        errors=outcome.rules_found(Severity.ERROR),
        warnings=outcome.rules_found(Severity.WARNING),
    )


def _interval(
    interval: Interval | None,
    show: Callable[[float], str],
    least: float = -math.inf,
    most: float = math.inf,
) -> tuple[str, str]:
    """(mean, ``low to high``) as text; the second is empty where one seed gives no interval."""
    if interval is None:
        return "–", ""
    if math.isnan(interval.low):
        return show(interval.mean), ""
    low, high = max(least, interval.low), min(most, interval.high)
    return show(interval.mean), f"{show(low)} to {show(high)}"
