"""Histograms: where the bins of one tensor lie."""

import math

import torch

from fanin.measuring.statistics import widened
from fanin.signals import Histogram

BINS = 64
# A histogram sorts its values to find the quartiles: beyond this many, an even sample is read.
_LARGEST_SAMPLE = 1 << 20


def histogram(tensor: torch.Tensor) -> Histogram | None:
    """Histogram of a tensor's finite values; None when there are none.

    64 bins of one width. They span the values, cut to 6 interquartile ranges around the median
    when something lies beyond (8σ for a normal distribution), so that one outlier does not
    squeeze all else into one bin; the outermost bins then also count what lies outside. A tensor
    of one value has one bin of no width. More than 2²⁰ values are sampled at even distances.

    Examples:
        >>> h = histogram(torch.arange(128.0))
        >>> len(h.counts), sum(h.counts), h.edges[0], h.edges[-1]
        (64, 128, 0.0, 127.0)
    """
    values = widened(tensor).flatten()
    if values.numel() > _LARGEST_SAMPLE:
        values = values[:: math.ceil(values.numel() / _LARGEST_SAMPLE)]
    values = values[torch.isfinite(values)].double().cpu()
    if values.numel() == 0:
        return None
    values = values.sort().values
    low, high = float(values[0]), float(values[-1])
    if low == high:
        return Histogram((low, high), (values.numel(),))
    quarter = values.numel() // 4
    median = float(values[values.numel() // 2])
    reach = 6.0 * float(values[-1 - quarter] - values[quarter])
    if reach > 0:
        low, high = max(low, median - reach), min(high, median + reach)
    counts = torch.histc(values.clamp(low, high), bins=BINS, min=low, max=high)
    step = (high - low) / BINS
    edges = [low + step * i for i in range(BINS)]
    return Histogram((*edges, high), tuple(int(c) for c in counts))
