"""Densities from histograms: pooled over seeds, and smoothed (KDE).

A histogram says how many values fell into each bin and nothing about where in it.  Everything
here takes the values of a bin as spread evenly over it.  A Gaussian kernel density estimate
then has a closed form: each bin of mass m from a to b adds m/(b−a) · [Φ((x−a)/h) − Φ((x−b)/h)].
It integrates to 1, knows no grid, and shows no ripples where the bins are wider than h.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fanin.signals import Histogram

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Density:
    """A piecewise constant density: ``masses`` sum to 1 over the bins between ``edges``.

    ``values`` is the number of tensor elements behind it.
    """

    edges: Floats
    masses: Floats
    values: int

    @property
    def heights(self) -> Floats:
        """Probability density in each bin."""
        heights: Floats = self.masses / np.diff(self.edges)
        return heights

    @property
    def mean(self) -> float:
        """Mean of the values, each taken at its bin's centre on average."""
        return float(self.masses @ ((self.edges[1:] + self.edges[:-1]) / 2))

    @property
    def std(self) -> float:
        """Standard deviation, the spread within each bin (width²/12) included."""
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        within = np.diff(self.edges) ** 2 / 12
        return math.sqrt(max(0.0, float(self.masses @ ((centres - self.mean) ** 2 + within))))

    def quantile(self, share: float) -> float:
        """The value below which ``share`` of the mass lies."""
        grown = np.concatenate([[0.0], np.cumsum(self.masses)])
        return float(np.interp(share, grown, self.edges))


@dataclass(frozen=True)
class Spike:
    """All values are equal (zeros, ones, a constant): there is no density to draw."""

    at: float
    values: int


def pool(histograms: Sequence[Histogram], bins: int = 40) -> Density | Spike | None:
    """All values of several histograms (one per seed) as one density over common bins.

    Args:
        histograms: of finite values; their edges may differ, and bins of zero width are spikes.
        bins: number of equal bins from the smallest to the largest value.

    Returns:
        A Spike where all values are equal; None where there is no value at all.
    """
    kept = [(h, _occupied(h)) for h in histograms if sum(h.counts) > 0]
    if not kept:
        return None
    low = min(span[0] for _, span in kept)
    high = max(span[1] for _, span in kept)
    total = sum(sum(h.counts) for h, _ in kept)
    if not high > low or _is_one_point(kept):
        return Spike((low + high) / 2, total)
    edges = np.linspace(low, high, bins + 1)
    masses = np.zeros(bins)
    for histogram, _ in kept:
        masses += _spread(histogram, edges)
    return Density(edges, masses / masses.sum(), total)


def bandwidth(density: Density) -> float:
    """Silverman's rule: 0.9 · min(σ, IQR / 1.34) · n^(−1/5) (Silverman 1986, eq. 3.31).

    Where more than half of all values are equal the IQR is 0 and σ is used alone.
    """
    spread = (density.quantile(0.75) - density.quantile(0.25)) / 1.34
    scale = min(density.std, spread) if spread > 0 else density.std
    return float(0.9 * scale * density.values ** (-1 / 5))


def smooth(density: Density, points: int = 100) -> tuple[Floats, Floats]:
    """The kernel density estimate on ``points`` equal steps, three bandwidths beyond the ends.

    Returns:
        ``(x, density)``, both of shape ``(points,)``; the density is per unit of x.
    """
    from scipy.special import ndtr

    h = bandwidth(density)
    x = np.linspace(density.edges[0] - 3 * h, density.edges[-1] + 3 * h, points)
    rising = ndtr((x[:, None] - density.edges[None, :]) / h)
    return x, (rising[:, :-1] - rising[:, 1:]) @ density.heights


def _occupied(histogram: Histogram) -> tuple[float, float]:
    """From the left edge of the first bin with a value to the right edge of the last."""
    places = [i for i, n in enumerate(histogram.counts) if n]
    return histogram.edges[places[0]], histogram.edges[places[-1] + 1]


def _is_one_point(kept: Sequence[tuple[Histogram, tuple[float, float]]]) -> bool:
    # A histogram spans its smallest to its largest value, so one lone occupied bin among many
    # is what binning makes of a constant: the bins around it are only there to give it a width.
    lone = [sum(1 for n in h.counts if n) == 1 and len(h.counts) > 1 for h, _ in kept]
    centres = [(span[0] + span[1]) / 2 for _, span in kept]
    width = max(span[1] - span[0] for _, span in kept)
    return all(lone) and max(centres) - min(centres) <= width


def _spread(histogram: Histogram, edges: Floats) -> Floats:
    """Counts of ``histogram`` shared out over the bins between ``edges`` by overlap."""
    old = np.asarray(histogram.edges, dtype=np.float64)
    counts = np.asarray(histogram.counts, dtype=np.float64)
    wide = np.diff(old) > 0
    grown = np.concatenate([[0.0], np.cumsum(np.where(wide, counts, 0.0))])
    shares: Floats = np.diff(np.interp(edges, old, grown))
    for at, n in zip(old[:-1][~wide], counts[~wide], strict=True):
        shares[min(len(shares) - 1, max(0, int(np.searchsorted(edges, at, "right")) - 1))] += n
    return shares
