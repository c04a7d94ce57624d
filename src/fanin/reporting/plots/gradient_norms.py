"""L2 norm of the gradient while training, of the whole model or of one weight."""

import math
from collections.abc import Sequence

from fanin.comparing.study import Study, Trial
from fanin.errors import unknown_name
from fanin.reporting.curves import band
from fanin.reporting.numbers import compact_all
from fanin.reporting.plots.picture import Picture, Trace, axis, band_trace, line_trace, log_axis
from fanin.reporting.plots.training_curves import BAND_CAPTION
from fanin.reporting.reading import cases, chosen_model


def gradient_norms(
    study: Study,
    *,
    model: str | None = None,
    recipes: Sequence[str] | None = None,
    layer: str | None = None,
    points: int = 150,
) -> Picture:
    """L2 norm of the gradient over time.

    Args:
        study: the study.
        model: one of its models; None for the first.
        recipes: those to show; None for all.
        layer: the name of one weight; None for all weights together.
        points: most points per curve.
    """
    model = chosen_model(study, model)
    known = weights_with_norms(study, model)
    if layer is not None and layer not in known:
        raise unknown_name("layer", layer, known, "study.trials[0].gradient_norms")
    traces: list[Trace] = []
    for case in cases(study, model, recipes):
        steps = max((t.gradient_steps for t in case.trials), key=len, default=())
        curve = band([_norms(t, layer) for t in case.trials], steps, points)
        # A log axis has no 0: a weight without any gradient leaves a gap.
        middle, low, high = (
            compact_all(v if v is not None and v > 0 else None for v in values)
            for values in (curve.middle, curve.low, curve.high)
        )
        if any(v is not None for v in middle):
            x = compact_all(curve.steps)
            if len(case.trials) > 1:
                traces.append(band_trace(case.recipe, case.look, x, low, high))
            traces.append(line_trace(case.recipe, case.look, x, middle))
    what = "all weights together" if layer is None else layer
    return Picture(
        title=f"Gradient norm over time: {what}",
        caption=f"{BAND_CAPTION} A recipe whose gradients are exactly 0 has no line.",
        traces=tuple(traces),
        layout={
            "xaxis": axis("step"),
            "yaxis": log_axis("L2 norm of the gradient", traces, "y"),
            "hovermode": "x unified",
        },
    )


def weights_with_norms(study: Study, model: str | None) -> tuple[str, ...]:
    """Names of the weights whose gradient norms were recorded, in the order of the network."""
    return tuple(
        dict.fromkeys(
            name for trial in study.trials if trial.model == model for name in trial.gradient_norms
        )
    )


def _norms(trial: Trial, layer: str | None) -> tuple[float, ...]:
    if layer is not None:
        return tuple(trial.gradient_norms.get(layer, ()))
    return tuple(math.hypot(*at) for at in zip(*trial.gradient_norms.values(), strict=False))
