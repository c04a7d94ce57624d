"""RMS of activations and of their gradients, layer by layer, before the first step."""

import math
from collections.abc import Callable, Sequence
from statistics import median

from fanin.comparing.study import LayerSnapshot, Study
from fanin.reporting.numbers import compact, compact_all
from fanin.reporting.plots.picture import (
    Picture,
    Trace,
    axis,
    band_trace,
    label,
    line_trace,
    log_axis,
)
from fanin.reporting.reading import cases, chosen_model, layers, snapshots


def activations_by_layer(
    study: Study, *, model: str | None = None, recipes: Sequence[str] | None = None
) -> Picture:
    """RMS of each layer's output at the start: flat is healthy, a slope is decay or explosion."""
    return _by_layer(
        study,
        model,
        recipes,
        "Activations by layer, at the start",
        "RMS of the layer's output",
        "From the input (left) to the output (right). Flat is healthy; a steady fall or rise "
        "means that signals vanish or explode with depth.",
        lambda snapshot: snapshot.activation_rms,
    )


def gradients_by_layer(
    study: Study, *, model: str | None = None, recipes: Sequence[str] | None = None
) -> Picture:
    """RMS of the loss's gradient at each layer at the start: flat is healthy."""
    return _by_layer(
        study,
        model,
        recipes,
        "Gradients by layer, at the start",
        "RMS of the gradient",
        "The gradient flows from the output (right) to the input (left). Flat is healthy; where "
        "it falls towards the left, the first layers hardly learn.",
        lambda snapshot: snapshot.gradient_rms,
    )


def _by_layer(
    study: Study,
    model: str | None,
    recipes: Sequence[str] | None,
    title: str,
    quantity: str,
    caption: str,
    read: Callable[[LayerSnapshot], float | None],
) -> Picture:
    model = chosen_model(study, model)
    names = layers(study, model)
    depth = list(range(1, len(names) + 1))
    traces: list[Trace] = []
    zero, broken = [], []
    for case in cases(study, model, recipes):
        by_name = [[read(s) for s in snapshots(case.trials, name)] for name in names]
        known = [[v for v in values if v is not None] for values in by_name]
        if not any(known):
            continue
        # On a log axis 0 has no place: the caption names what cannot be drawn.
        shown = [[v for v in values if math.isfinite(v) and v > 0] for values in known]
        if any(v == 0 for values in known for v in values):
            zero.append(case.recipe)
        if any(not math.isfinite(v) for values in known for v in values):
            broken.append(case.recipe)
        low = [compact(min(values)) if values else None for values in shown]
        high = [compact(max(values)) if values else None for values in shown]
        if len(case.trials) > 1:
            traces.append(band_trace(case.recipe, case.look, depth, low, high))
        middle = compact_all(median(values) if values else None for values in shown)
        hover = [label(name) for name in names]
        traces.append(
            line_trace(
                case.recipe,
                case.look,
                depth,
                middle,
                markers=True,
                text=hover,
                hovertemplate="%{y:.3g} at %{text}",
            )
        )
    if zero:
        caption += f" Exactly 0 in at least one layer, so not drawn there: {', '.join(zero)}."
    if broken:
        caption += f" NaN or infinite in at least one layer: {', '.join(broken)}."
    return Picture(
        title=title,
        caption=caption,
        traces=tuple(traces),
        layout={
            "xaxis": axis(
                "layer",
                dtick=max(1, math.ceil(len(names) / 12)),
                tick0=1,
                range=[0.5, len(names) + 0.5],
            ),
            "yaxis": log_axis(quantity, traces, "y"),
            "hovermode": "closest",
        },
    )
