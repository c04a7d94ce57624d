"""A recipe's line, dash and marker as a small drawing for legends and tables."""

import math
from dataclasses import dataclass

from fanin.reporting.palette import Look

_DASHES = {
    "solid": "",
    "dot": "2,3",
    "dash": "7,4",
    "longdash": "11,4",
    "dashdot": "7,3,2,3",
    "longdashdot": "11,3,2,3",
}
"""plotly's names for dashes as SVG's lengths."""


@dataclass(frozen=True)
class Swatch:
    """``dashes`` is an SVG stroke-dasharray; ``shape`` the path of the marker around (18, 7)."""

    light: str
    dark: str
    dashes: str
    shape: str


def swatch(look: Look) -> Swatch:
    """The small drawing of a look."""
    dashes = _DASHES.get(look.dash, look.dash.replace("px", ""))
    return Swatch(look.light, look.dark, dashes, _marker(look.marker))


def _marker(name: str) -> str:
    if name in {"cross", "x"}:
        turn = 0.0 if name == "cross" else math.pi / 4
        arms = [(5, 1.7), (1.7, 1.7), (1.7, 5), (-1.7, 5), (-1.7, 1.7), (-5, 1.7)]
        points = [*arms, *((-x, -y) for x, y in arms)]
        return _path([_turned(x, y, turn) for x, y in points])
    if name == "star":
        return _path(
            [_polar(5.5 if i % 2 == 0 else 2.4, math.pi * i / 5 - math.pi / 2) for i in range(10)]
        )
    corners, start = {
        "circle": (24, 0.0),
        "square": (4, math.pi / 4),
        "diamond": (4, 0.0),
        "triangle-up": (3, -math.pi / 2),
        "triangle-down": (3, math.pi / 2),
        "pentagon": (5, -math.pi / 2),
        "hexagon": (6, 0.0),
    }[name]
    return _path([_polar(5, start + 2 * math.pi * i / corners) for i in range(corners)])


def _polar(radius: float, angle: float) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def _turned(x: float, y: float, angle: float) -> tuple[float, float]:
    c, s = math.cos(angle), math.sin(angle)
    return c * x - s * y, s * x + c * y


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{18 + x:.1f} {7 + y:.1f}" for x, y in points) + "Z"
