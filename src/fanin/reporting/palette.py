"""One colour, dash and marker per recipe, the same in every figure and table.

The hues are Okabe and Ito's (2008), which the common colour-blindnesses keep apart.  Each comes
in two lightnesses, so that it stands out by 3:1 or more from a white and from a dark page (WCAG
2.1, 1.4.11).  Dash and marker repeat the distinction without colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PAPER_LIGHT = "#ffffff"
PAPER_DARK = "#15191f"


@dataclass(frozen=True)
class Look:
    """How one recipe is drawn."""

    light: str
    dark: str
    dash: str
    marker: str


LOOKS: tuple[Look, ...] = (
    Look("#0072b2", "#56a8f5", "solid", "circle"),
    Look("#d55e00", "#ff8a3d", "dash", "square"),
    Look("#00835f", "#2fc79a", "dot", "diamond"),
    Look("#b0458a", "#e48cc4", "dashdot", "triangle-up"),
    Look("#9a6b00", "#e6b422", "longdash", "cross"),
    Look("#2f8fc4", "#8fd3ff", "longdashdot", "x"),
    Look("#6a3fb5", "#b79bff", "5px,2px,2px,2px,2px,2px", "star"),
    Look("#5a5a5a", "#c4c8ce", "10px,3px", "hexagon"),
    Look("#a01f2e", "#ff7b86", "2px,4px", "pentagon"),
    Look("#4f7a1a", "#a6d15b", "14px,4px,3px,4px", "triangle-down"),
)


def looks(recipes: Sequence[str]) -> dict[str, Look]:
    """Recipe -> its look, by its place in the study; beyond ten, colours repeat with new dashes."""
    found = {}
    for place, recipe in enumerate(recipes):
        again, here = divmod(place, len(LOOKS))
        base, other = LOOKS[here], LOOKS[(here + 3 * again) % len(LOOKS)]
        found[recipe] = Look(base.light, base.dark, other.dash, other.marker)
    return found


def contrast(first: str, second: str) -> float:
    """The WCAG 2.1 contrast ratio of two ``#rrggbb`` colours, from 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def translucent(colour: str, opacity: float) -> str:
    """``#rrggbb`` as an ``rgba(…)`` of that opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
