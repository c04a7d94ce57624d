"""Distributions in one layer, recipe by recipe: histogram and kernel density estimate.

Each recipe has a panel with an x-axis of its own, because scales differ by orders of magnitude
between recipes: on a common axis all but the widest would be a spike.
"""

from collections.abc import Callable, Sequence

from fanin.comparing.study import LayerSnapshot, Study
from fanin.reporting.density import Density, Floats, Spike, pool, smooth
from fanin.reporting.numbers import compact_all, number
from fanin.reporting.palette import Look, translucent
from fanin.reporting.plots.picture import Picture, Trace, axis, label
from fanin.reporting.reading import cases, chosen_layer, chosen_model, snapshots
from fanin.signals import Histogram

INK = "#4a4f57"
DIGITS = 4
"""Digits of a density: a thousandth of its height is less than a pixel."""

DENSITY_CAPTION = (
    "Bars: histogram over all seeds, as a density. Lines: kernel density estimate (Gaussian, "
    "Silverman's bandwidth). A single vertical line: all values are equal."
)

_Read = Callable[[LayerSnapshot], Histogram | None]


def weight_histograms(
    study: Study,
    *,
    model: str | None = None,
    recipes: Sequence[str] | None = None,
    layer: str | None = None,
) -> Picture:
    """Weights of one layer (None: the first) before and after training."""
    return _panels(
        study,
        model,
        recipes,
        layer,
        "Weights",
        "weight",
        {"start": lambda s: s.weight_start, "end": lambda s: s.weight_end},
        f"{DENSITY_CAPTION} In colour: at the start. Grey, dashed: after training.",
    )


def activation_distributions(
    study: Study,
    *,
    model: str | None = None,
    recipes: Sequence[str] | None = None,
    layer: str | None = None,
) -> Picture:
    """Activations of one layer (None: the first) before training."""
    read: _Read = lambda s: s.activation_start  # noqa: E731
    return _panels(
        study, model, recipes, layer, "Activations", "activation", {"start": read}, DENSITY_CAPTION
    )


def gradient_distributions(
    study: Study,
    *,
    model: str | None = None,
    recipes: Sequence[str] | None = None,
    layer: str | None = None,
) -> Picture:
    """The loss's gradient at one layer (None: the first) before training."""
    read: _Read = lambda s: s.gradient_start  # noqa: E731
    return _panels(
        study, model, recipes, layer, "Gradients", "gradient", {"start": read}, DENSITY_CAPTION
    )


def _panels(
    study: Study,
    model: str | None,
    recipes: Sequence[str] | None,
    layer: str | None,
    title: str,
    quantity: str,
    moments: dict[str, _Read],
    caption: str,
) -> Picture:
    model = chosen_model(study, model)
    layer = chosen_layer(study, model, layer)
    drawn = []
    for case in cases(study, model, recipes):
        found = snapshots(case.trials, layer)
        shapes = {
            moment: shape
            for moment, read in moments.items()
            if (shape := pool([h for s in found if (h := read(s)) is not None])) is not None
        }
        if shapes:
            drawn.append((case, shapes))
    traces: list[Trace] = []
    columns = min(3, max(1, len(drawn)))
    rows = max(1, -(-len(drawn) // columns))
    layout: dict[str, object] = {"bargap": 0, "barmode": "overlay"}
    if len(drawn) > 1:
        layout["grid"] = {"rows": rows, "columns": columns, "pattern": "independent"}
    for place, (case, shapes) in enumerate(drawn):
        suffix = "" if place == 0 else str(place + 1)
        tallest = max((_top(shape) for shape in shapes.values()), default=1.0)
        for moment, shape in shapes.items():
            for trace in _shape(case.recipe, case.look, moment, shape, tallest):
                traces.append({**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
        heading = f"{case.recipe}: {spread(shapes)}" if len(drawn) > 1 else quantity
        layout[f"xaxis{suffix}"] = axis(label(heading), nticks=5, tickangle=0)
        layout[f"yaxis{suffix}"] = axis("density" if place % columns == 0 else "", nticks=4)
    return Picture(
        title=f"{title} of {layer}" if layer else title,
        caption=caption,
        traces=tuple(traces),
        layout=layout,
        height=210 * rows,
        note=spread(drawn[0][1]) if len(drawn) == 1 else "",
    )


def spread(shapes: dict[str, Density | Spike]) -> str:
    """``std 0.09 → 0.12``: the standard deviation at each moment."""
    stds = [number(0.0 if isinstance(s, Spike) else s.std) for s in shapes.values()]
    return "std " + " → ".join(stds)


def _top(shape: Density | Spike) -> float:
    return 0.0 if isinstance(shape, Spike) else float(shape.heights.max())


def _shape(
    recipe: str, look: Look, moment: str, shape: Density | Spike, tallest: float
) -> list[Trace]:
    """Bars and a smooth line, or one vertical line for a spike."""
    at_end = moment == "end"
    colour = INK if at_end else look.light
    common: Trace = {
        "name": f"{label(recipe)}, {moment}",
        "legendgroup": recipe,
        "showlegend": False,
    }
    line = {"color": colour, "width": 2, "dash": "dash" if at_end else "solid"}
    paint = {"recipe": recipe, "paint": "ink" if at_end else "line"}
    if isinstance(shape, Spike):
        return [
            {
                **common,
                "type": "scatter",
                "mode": "lines",
                "x": compact_all([shape.at, shape.at]),
                "y": compact_all([0.0, tallest or 1.0]),
                "line": {**line, "width": 4},
                "hovertemplate": f"all values are {number(shape.at)}<extra>{moment}</extra>",
                "meta": paint,
            }
        ]
    x, y = smooth(shape)
    return [
        {
            **common,
            "type": "bar",
            **_evenly((shape.edges[:-1] + shape.edges[1:]) / 2),
            "y": compact_all(shape.heights, DIGITS),
            "width": float(f"{shape.edges[1] - shape.edges[0]:.6g}"),
            "marker": {
                "color": translucent(colour, 0.15 if at_end else 0.35),
                "line": {"width": 0},
            },
            "hoverinfo": "skip",
            "meta": {"recipe": recipe, "paint": "inkbars" if at_end else "bars"},
        },
        {
            **common,
            "type": "scatter",
            "mode": "lines",
            **_evenly(x),
            "y": compact_all(y, DIGITS),
            "line": line,
            "hovertemplate": f"%{{x:.3g}}<extra>{moment}</extra>",
            "meta": paint,
        },
    ]


def _evenly(x: Floats) -> Trace:
    """Even steps as start and step: half the size of writing every x."""
    return {"x0": float(f"{x[0]:.8g}"), "dx": float(f"{x[1] - x[0]:.8g}")}
