"""A picture: the traces and layout of one figure, as plain values.

Pages put pictures into their JSON and notebooks get them as plotly figures: one description for
both, and a page is written without loading plotly.
"""

import math
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
        note: a number to set beside the title, such as the spread; empty for none.
    """

    title: str
    caption: str
    traces: tuple[Trace, ...] = ()
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 380
    note: str = ""

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


def axis(title: str, **more: Any) -> dict[str, Any]:
    """A linear plotly axis with a title."""
    return {"title": {"text": title}, "automargin": True, "exponentformat": "power", **more}


def log_axis(title: str, traces: Sequence[Trace], letter: str, **more: Any) -> dict[str, Any]:
    """A logarithmic axis whose ticks are round numbers in the range of the traces.

    plotly's own ticks on a log axis are either powers of ten alone or a crowd of single digits.
    Where all values lie within a factor of three the axis is linear: a log axis shows no more.

    Args:
        title: of the axis.
        traces: what is drawn; their ``letter`` values set the range.
        letter: "x" or "y".
        more: further settings of the axis.
    """
    values = [v for t in traces for v in t[letter] if isinstance(v, float | int) and v > 0]
    if not values or max(values) < 3 * min(values):
        return axis(title, **more)
    ticks = log_ticks(min(values), max(values))
    return axis(
        title,
        type="log",
        tickmode="array",
        tickvals=ticks,
        ticktext=[_tick_text(tick) for tick in ticks],
        **more,
    )


def log_ticks(low: float, high: float) -> list[float]:
    """About four to nine round numbers that cover ``low`` to ``high`` on a log axis.

    Examples:
        >>> log_ticks(0.03, 2.4)
        [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
        >>> log_ticks(1e-9, 1.0)
        [1e-10, 1e-08, 1e-06, 0.0001, 0.01, 1.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    if decades > 3:
        step = math.ceil((last - first + 1) / 8)
        return [float(f"1e{n}") for n in range(first - first % step, last + 1, step)]
    digits = (1, 2, 5) if decades > 1 else (1, 2, 3, 4, 5, 7)
    found = [float(f"{digit}e{n}") for n in range(first - 1, last + 1) for digit in digits]
    inside = [v for v in found if low <= v <= high]
    below = [v for v in found if v < low][-1:]
    above = [v for v in found if v > high][:1]
    return below + inside + above


def _tick_text(tick: float) -> str:
    if 1e-3 <= tick < 1e5:
        return f"{tick:g}"
    exponent = math.floor(math.log10(tick) + 1e-9)
    digit = tick / 10.0**exponent
    power = f"10<sup>{exponent}</sup>".replace("-", "−")
    return power if abs(digit - 1) < 1e-9 else f"{digit:g}·{power}"
