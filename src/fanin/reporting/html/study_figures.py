"""The figures of a study's page, as the JSON that its script draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fanin.comparing.study import Study
from fanin.reporting import plots
from fanin.reporting.plots.gradient_norms import gradient_norms, weights_with_norms
from fanin.reporting.plots.picture import Picture
from fanin.reporting.reading import layers, recipes

LAYERS_KEPT = 24
"""Most layers whose distributions a page carries; of deeper networks evenly spread ones."""


@dataclass(frozen=True)
class Panel:
    """One figure on the page: where its data is, and what stands around it.

    Args:
        key: its id in the page and in the data.
        title, caption: as in the picture.
        height: in pixels.
        recipe: the one recipe that it shows; None for a figure of all.
        log: its y-axis is logarithmic.
    """

    key: str
    title: str
    caption: str
    height: int
    recipe: str | None = None
    log: bool = False


@dataclass(frozen=True)
class Family:
    """Panels of one kind, one per recipe, that follow one choice of layer."""

    title: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class ModelFigures:
    """All figures of one model, in the order of the page."""

    curves: tuple[Panel, ...]
    outcomes: tuple[Panel, ...]
    by_layer: tuple[Panel, ...]
    norms: Panel | None
    norm_layers: tuple[str, ...]
    families: tuple[Family, ...]
    layers: tuple[str, ...]
    all_layers: int


class FigureData:
    """Collects what the page's script draws: figure id -> layer ("" for none) -> traces, layout."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, Any]] = {}

    def add(
        self, key: str, model: str, variants: Mapping[str, Picture], recipe: str | None = None
    ) -> Panel | None:
        """Put the variants of one figure under its key; None, and nothing put, if all are empty."""
        first = next((p for p in variants.values() if p.traces), None)
        if first is None:
            return None
        self.figures[key] = {
            "height": first.height,
            "variants": {
                name: {
                    "data": [_slim(t) for t in picture.traces],
                    "layout": dict(picture.layout),
                    "note": picture.note,
                }
                for name, picture in variants.items()
            },
        }
        log = first.layout["yaxis"].get("type") == "log"
        return Panel(key, _title(first, model), first.caption, first.height, recipe, log)


def _title(picture: Picture, model: str) -> str:
    # The page shows a figure below the model's own heading.
    return picture.title.removesuffix(f": {model}")


def model_figures(study: Study, model: str, number: int, data: FigureData) -> ModelFigures:
    """Draw every figure of one model into ``data``; ``number`` keeps ids apart between models."""

    def whole(*names: str) -> tuple[Panel, ...]:
        drawn = [
            data.add(f"m{number}-{name}", model, {"": plots.PICTURES[name](study, model=model)})
            for name in names
        ]
        return tuple(panel for panel in drawn if panel is not None)

    with_norms = weights_with_norms(study, model)
    norms = {"": gradient_norms(study, model=model)}
    for name in _spread(with_norms):
        norms[name] = gradient_norms(study, model=model, layer=name, points=80)
    every = layers(study, model)
    names = _spread(every)
    return ModelFigures(
        curves=whole("loss_curves", "accuracy_curves"),
        outcomes=whole("final_losses", "convergence_speed"),
        by_layer=whole("activations_by_layer", "gradients_by_layer"),
        norms=data.add(f"m{number}-gradient_norms", model, norms),
        norm_layers=_spread(with_norms),
        families=tuple(
            family
            for name, title in (
                ("weight_histograms", "Weights at the start and at the end"),
                ("activation_distributions", "Activations at the start"),
                ("gradient_distributions", "Gradients at the start"),
            )
            if (family := _family(study, model, number, name, title, names, data)) is not None
        ),
        layers=names,
        all_layers=len(every),
    )


def _family(
    study: Study,
    model: str,
    number: int,
    name: str,
    title: str,
    names: Sequence[str],
    data: FigureData,
) -> Family | None:
    panels, caption = [], ""
    for place, recipe in enumerate(recipes(study, model)):
        variants = {
            layer: plots.PICTURES[name](study, model=model, recipes=[recipe], layer=layer)
            for layer in names
        }
        panel = data.add(f"m{number}-{name}-{place}", model, variants, recipe)
        if panel is not None:
            panels.append(panel)
            caption = panel.caption
    return Family(title, caption, tuple(panels)) if panels else None


def _spread(names: Sequence[str]) -> tuple[str, ...]:
    """At most ``LAYERS_KEPT`` of the names, evenly spread, the first and the last among them."""
    if len(names) <= LAYERS_KEPT:
        return tuple(names)
    last = len(names) - 1
    return tuple(names[round(i * last / (LAYERS_KEPT - 1))] for i in range(LAYERS_KEPT))


def _slim(trace: Mapping[str, Any]) -> dict[str, Any]:
    # The page has one legend of its own, and its script paints every trace from the recipe.
    dropped = {"showlegend", "legendgroup"}
    return {key: value for key, value in trace.items() if key not in dropped}
