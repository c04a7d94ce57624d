"""What each recipe reached: final loss and steps to the target, every seed and the interval."""

import math
from collections.abc import Sequence

from fanin.comparing.statistics import Interval
from fanin.comparing.study import Study
from fanin.reporting.numbers import compact, compact_all, number
from fanin.reporting.outcome import Outcome, model_summary, outcomes
from fanin.reporting.plots.picture import Picture, Trace, axis, label, log_axis
from fanin.reporting.reading import chosen_model


def final_losses(
    study: Study, *, model: str | None = None, recipes: Sequence[str] | None = None
) -> Picture:
    """Final training loss of every seed, with the mean and its 95 % interval."""
    model = chosen_model(study, model)
    found = outcomes(study, model, recipes)
    losses = [loss for outcome in found for loss in outcome.final_losses]
    log = bool(losses) and min(losses) > 0
    traces: list[Trace] = []
    cut = False
    for outcome in found:
        interval = None if outcome.row.diverged else outcome.row.final_loss
        # A log axis has no room for an interval that reaches 0 or less.
        floor = min(outcome.final_losses, default=0.0) / 2 if log else None
        cut |= floor is not None and interval is not None and interval.low < floor
        traces += _dots(outcome, outcome.final_losses, interval, "final loss", floor)
    caption = (
        "Circles: one per seed. Diamond and bar: mean and 95 % interval over seeds. Seeds that "
        "diverged have no circle, and their recipe no interval."
    )
    if cut:
        caption += " Bars end at half of the lowest circle where the interval goes below."
    return Picture(
        title="Final training loss",
        caption=caption + _absent([o for o in found if not o.final_losses], "every seed diverged"),
        traces=tuple(traces),
        layout=_layout(
            log_axis("final training loss", traces, "x") if log else axis("final training loss"),
            found,
        ),
        height=90 + 34 * len(found),
    )


def convergence_speed(
    study: Study, *, model: str | None = None, recipes: Sequence[str] | None = None
) -> Picture:
    """Steps until the training loss reached the study's target, for every seed."""
    model = chosen_model(study, model)
    found = outcomes(study, model, recipes)
    summary = model_summary(study, model)
    target = summary.target_loss if summary else None
    reached = {
        outcome.recipe: [
            float(steps)
            for trial in outcome.trials
            if target is not None and (steps := trial.steps_to(target)) is not None
        ]
        for outcome in found
    }
    traces: list[Trace] = []
    for outcome in found:
        values = reached[outcome.recipe]
        everyone = len(values) == outcome.row.seeds
        interval = outcome.row.steps_to_target if everyone else None
        traces += _dots(outcome, values, interval, "steps")
    goal = f"training loss {number(target)}" if target is not None else "the target loss"
    never = [outcome for outcome in found if not reached[outcome.recipe]]
    return Picture(
        title=f"Steps to reach {goal}",
        caption="Circles: one per seed that reached it (mean of five steps at most that loss). "
        "Diamond and bar: mean and 95 % interval, where every seed did."
        + _absent(never, "no seed reached it"),
        traces=tuple(traces),
        layout=_layout(axis(f"steps to {goal}", rangemode="tozero"), found),
        height=90 + 34 * len(found),
    )


def _dots(
    outcome: Outcome,
    values: Sequence[float],
    interval: Interval | None,
    quantity: str,
    floor: float | None = None,
) -> list[Trace]:
    if not values:
        return []
    name = label(outcome.recipe)
    common: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendgroup": outcome.recipe,
        "meta": {"recipe": outcome.recipe, "paint": "line"},
    }
    dots: Trace = {
        **common,
        "x": compact_all(values),
        "y": [name] * len(values),
        "marker": {"color": outcome.look.light, "symbol": "circle-open", "size": 8},
        "hovertemplate": f"{quantity} %{{x:.4g}}",
    }
    if interval is None or math.isnan(interval.low):
        return [dots]
    mean, low, high = interval.mean, interval.low, interval.high
    shown_low = low if floor is None else max(low, floor)
    return [
        {**dots, "showlegend": False},
        {
            **common,
            "x": [compact(mean)],
            "y": [name],
            "marker": {"color": outcome.look.light, "symbol": "diamond", "size": 11},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [compact(high - mean)],
                "arrayminus": [compact(mean - shown_low)],
                "color": outcome.look.light,
                "thickness": 2,
            },
            "hovertemplate": f"mean {number(mean)}, 95 % from {number(low)} to {number(high)}",
        },
    ]


def _layout(values: dict[str, object], rows: Sequence[Outcome]) -> dict[str, object]:
    order = [label(row.recipe) for row in rows]
    return {
        "xaxis": values,
        # Category axes count upwards; the table beside the figure reads downwards.
        "yaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": order[::-1],
            "range": [-0.6, len(order) - 0.4],
            "automargin": True,
        },
        "hovermode": "closest",
    }


def _absent(missing: Sequence[Outcome], why: str) -> str:
    names = ", ".join(outcome.recipe for outcome in missing)
    return f" Not drawn, because {why}: {names}." if names else ""
