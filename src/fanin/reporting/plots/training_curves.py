"""Loss and accuracy while training: the median over seeds, and their whole range as a band."""

import math
from collections.abc import Sequence

from fanin.comparing.study import Study, Trial
from fanin.reporting.curves import Band, band
from fanin.reporting.numbers import compact_all
from fanin.reporting.plots.picture import Picture, Trace, axis, band_trace, line_trace, log_axis
from fanin.reporting.reading import Case, cases, chosen_model

LOSS_POINTS = 80
"""Points of a training loss: enough for its course, few enough to average out batch noise."""

BAND_CAPTION = "Line: median over seeds. Band: from the lowest to the highest seed."


def loss_curves(
    study: Study, *, model: str | None = None, recipes: Sequence[str] | None = None
) -> Picture:
    """Training loss at every step; a cross marks where a run became NaN or infinite."""
    model = chosen_model(study, model)
    found = cases(study, model, recipes)
    bands = {
        case.recipe: band([t.losses for t in case.trials], points=LOSS_POINTS) for case in found
    }
    traces = _banded(found, bands)
    for case in found:
        traces += _crosses(case)
    positive = all(v > 0 for b in bands.values() for v in b.low if v is not None)
    return Picture(
        title=f"Training loss: {model}" if model else "Training loss",
        caption=f"{BAND_CAPTION}{_blocks(bands)} A cross marks where a run diverged.",
        traces=tuple(traces),
        layout={
            "xaxis": axis("step"),
            "yaxis": log_axis("training loss", traces, "y") if positive else axis("training loss"),
            "hovermode": "x unified",
        },
        height=420,
    )


def accuracy_curves(
    study: Study, *, model: str | None = None, recipes: Sequence[str] | None = None
) -> Picture:
    """Held-out accuracy where the study has it, else accuracy on the training batches."""
    model = chosen_model(study, model)
    found = cases(study, model, recipes)
    held_out = any(t.held_out_accuracies for case in found for t in case.trials)
    name = "held-out accuracy" if held_out else "training-batch accuracy"
    bands = {}
    for case in found:
        if held_out:
            longest = max((t.held_out_steps for t in case.trials), key=len, default=())
            bands[case.recipe] = band([t.held_out_accuracies for t in case.trials], longest)
        else:
            bands[case.recipe] = band([t.accuracies for t in case.trials], points=LOSS_POINTS)
    return Picture(
        title=f"{name.capitalize()}: {model}" if model else name.capitalize(),
        caption=f"{BAND_CAPTION}{_blocks(bands)}",
        traces=tuple(_banded(found, bands)),
        layout={
            "xaxis": axis("step"),
            "yaxis": axis(name, tickformat=".0%"),
            "hovermode": "x unified",
        },
        height=420,
    )


def _banded(found: Sequence[Case], bands: dict[str, Band]) -> list[Trace]:
    traces = []
    for case in found:
        curve = bands[case.recipe]
        if any(v is not None for v in curve.middle):
            x = compact_all(curve.steps)
            if len(case.trials) > 1:
                low, high = compact_all(curve.low), compact_all(curve.high)
                traces.append(band_trace(case.recipe, case.look, x, low, high))
            traces.append(line_trace(case.recipe, case.look, x, compact_all(curve.middle)))
    return traces


def _crosses(case: Case) -> list[Trace]:
    ends = [end for trial in case.trials if (end := _last_finite(trial)) is not None]
    if not ends:
        return []
    cross = {"color": case.look.light, "symbol": "x", "size": 10}
    trace = line_trace(
        case.recipe,
        case.look,
        [step for step, _ in ends],
        compact_all(loss for _, loss in ends),
        legend=False,
        marker=cross,
        hovertemplate="diverged after step %{x}",
    )
    return [{**trace, "mode": "markers"}]


def _last_finite(trial: Trial) -> tuple[int, float] | None:
    if trial.status != "diverged":
        return None
    for step in range(len(trial.losses) - 1, -1, -1):
        if math.isfinite(trial.losses[step]):
            return step, trial.losses[step]
    return None


def _blocks(bands: dict[str, Band]) -> str:
    longest = max((b.block for b in bands.values()), default=1)
    return f" Each point is the mean of {longest} steps." if longest > 1 else ""
