"""Curves of many trials as one line and a band, thin enough for a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

POINTS_KEPT = 300
"""Most points that a curve keeps: about one per two pixels of a wide figure."""


@dataclass(frozen=True)
class Band:
    """The median over seeds at every step kept, and the range from the lowest to the highest.

    A value is None where no seed has a finite one: the line breaks there.
    ``block`` is the number of steps behind each point (1: every step is shown).
    """

    steps: tuple[float, ...]
    middle: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    block: int = 1


def band(
    curves: Sequence[Sequence[float]],
    steps: Sequence[float] | None = None,
    points: int = POINTS_KEPT,
) -> Band:
    """The band of several curves over the same steps.

    Long curves are cut into blocks of equal length, of which the mean is kept: it shows the
    trend, where every k-th value would show one batch's noise.  The first value stays as it is,
    because it is the loss that the initial weights alone make.

    Args:
        curves: one per seed. Shorter ones (a run that diverged) count as long as they go.
        steps: the step of each value; None for 0, 1, 2, …
        points: most points kept.
    """
    length = max((len(curve) for curve in curves), default=0)
    places = list(range(length)) if steps is None else list(steps)[:length]
    length = min(length, len(places))
    block = max(1, math.ceil((length - 1) / max(1, points - 1)))
    starts = [0, *range(1, length, block)] if length else []
    xs, middles, lows, highs = [], [], [], []
    for start in starts:
        stop = start + 1 if start == 0 else min(length, start + block)
        values = [
            mean
            for curve in curves
            if (mean := _finite_mean(curve[start:stop])) is not None and len(curve) >= stop
        ]
        xs.append((places[start] + places[stop - 1]) / 2)
        middles.append(median(values) if values else None)
        lows.append(min(values) if values else None)
        highs.append(max(values) if values else None)
    return Band(tuple(xs), tuple(middles), tuple(lows), tuple(highs), block)


def _finite_mean(values: Sequence[float]) -> float | None:
    if not values or not all(math.isfinite(v) for v in values):
        return None
    return math.fsum(values) / len(values)
