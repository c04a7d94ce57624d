"""Figures of a study by name, for notebooks; the HTML report draws the same pictures.

Every entry of ``FIGURES`` takes a ``Study`` and the keywords ``model``, ``recipes`` and, where a
figure is about one layer, ``layer``; it returns a plotly ``Figure``.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fanin.comparing.study import Study
from fanin.errors import unknown_name
from fanin.reporting.plots.by_layer import activations_by_layer, gradients_by_layer
from fanin.reporting.plots.distributions import (
    activation_distributions,
    gradient_distributions,
    weight_histograms,
)
from fanin.reporting.plots.gradient_norms import gradient_norms
from fanin.reporting.plots.outcomes import convergence_speed, final_losses
from fanin.reporting.plots.picture import Picture
from fanin.reporting.plots.training_curves import accuracy_curves, loss_curves

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PICTURES: Mapping[str, Callable[..., Picture]] = MappingProxyType(
    {
        picture.__name__: picture
        for picture in (
            loss_curves,
            accuracy_curves,
            final_losses,
            convergence_speed,
            weight_histograms,
            activation_distributions,
            gradient_distributions,
            gradient_norms,
            activations_by_layer,
            gradients_by_layer,
        )
    }
)


def _drawn(picture: Callable[..., Picture]) -> "Callable[..., Figure]":
    @wraps(picture)
    def draw(study: Study, **choices: Any) -> "Figure":
        return picture(study, **choices).figure()

    return draw


FIGURES: "Mapping[str, Callable[..., Figure]]" = MappingProxyType(
    {name: _drawn(picture) for name, picture in PICTURES.items()}
)


def figure(study: Study, name: str, **choices: Any) -> "Figure":
    """The figure of that name.

    Args:
        study: the study.
        name: a key of ``FIGURES``.
        choices: ``model``, ``recipes``, ``layer``: see the figure's function.

    Raises:
        UnknownNameError: there is no such figure, model, recipe or layer; lists the nearest.
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES, "fanin.reporting.plots.FIGURES")
    return FIGURES[name](study, **choices)
