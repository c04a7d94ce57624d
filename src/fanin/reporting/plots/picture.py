"""A picture: the traces and layout of one figure, as plain values.

Pages put pictures into their JSON and notebooks get them as plotly figures: one description for
both, and a page is written without loading plotly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fanin.reporting.palette import Look, translucent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trace = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """One figure.

    Args:
        title: what it shows, in a few words.
        caption: how to read it, in a sentence or two; also read out by screen readers.
        traces: plotly traces. ``meta.recipe`` says whose it is and ``meta.paint`` what takes the
            recipe's colour: "line", "band", "bars" or "ink" (the page's text colour).
        layout: plotly layout.
        height: in pixels.
    """

    title: str
    caption: str
    traces: tuple[Trace, ...] = ()
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 380

    def figure(self) -> "Figure":
        """The same as a plotly figure, with title and legend."""
        from plotly.graph_objects import Figure

        layout = {
            "template": "plotly_white",
            "title": {"text": self.title},
            "height": self.height + 120,
            "hovermode": "closest",
            **self.layout,
        }
        return Figure(data=list(self.traces), layout=layout)


def label(text: str) -> str:
    """Text for plotly, which reads a subset of HTML in every label: escaped, so that it is shown.

    Examples:
        >>> label("<b>&")
        '&lt;b&gt;&amp;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def line_trace(
    recipe: str,
    look: Look,
    x: Sequence[Any],
    y: Sequence[float | None],
    *,
    markers: bool = False,
    legend: bool = True,
    **more: Any,
) -> Trace:
    """A line in the recipe's colour and dash."""
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines",
        "x": list(x),
        "y": list(y),
        "name": label(recipe),
        "legendgroup": recipe,
        "showlegend": legend,
        "line": {"color": look.light, "dash": look.dash, "width": 2},
        "marker": {"color": look.light, "symbol": look.marker, "size": 7},
        "hovertemplate": "%{y:.4g}",
        "meta": {"recipe": recipe, "paint": "line"},
        **more,
    }


def band_trace(
    recipe: str,
    look: Look,
    x: Sequence[Any],
    low: Sequence[float | None],
    high: Sequence[float | None],
) -> Trace:
    """The area between two curves in the recipe's colour, where both have a value."""
    known = [
        (at, bottom, top)
        for at, bottom, top in zip(x, low, high, strict=True)
        if bottom is not None and top is not None
    ]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [at for at, _, _ in known] + [at for at, _, _ in reversed(known)],
        "y": [bottom for _, bottom, _ in known] + [top for _, _, top in reversed(known)],
        "fill": "toself",
        "fillcolor": translucent(look.light, 0.18),
        "line": {"width": 0},
        "name": label(recipe),
        "legendgroup": recipe,
        "showlegend": False,
        "hoverinfo": "skip",
        "meta": {"recipe": recipe, "paint": "band"},
    }


def axis(title: str, *, log: bool = False, **more: Any) -> dict[str, Any]:
    """A plotly axis with a title; a log axis shows powers of ten."""
    scale: dict[str, Any] = {"type": "log", "exponentformat": "power", "dtick": None} if log else {}
    return {"title": {"text": title}, "automargin": True, **scale, **more}
