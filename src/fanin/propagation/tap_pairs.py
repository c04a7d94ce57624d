"""Pair moments of sums over channels and taps, from the number of tap pairs along each axis.

Along each axis a table says which input position every (output position, tap) reads.  From it
follow the share of taps that padding leaves valid, for one position and for pairs, forwards and
backwards, whatever the stride.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fanin.propagation.layout import Axes, fit, plain_axes, shape_of
from fanin.propagation.quadrature import Array

Counts = tuple[tuple[float, float], tuple[float, float]]
"""``[i][j]`` for bits i (pair of outputs: same or other position) and j (same or other tap): the
mean number of valid tap pairs. The input positions of such a pair agree in ``[0][0]`` and are taken
to differ otherwise."""


@dataclass(frozen=True)
class Line:
    """One spatial axis: valid tap pairs, per output position and per input position."""

    forward: Counts
    backward: Counts


@lru_cache(maxsize=1024)
def line(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> Line:
    """Tap counts along one axis of a convolution from ``size`` to ``out`` positions."""
    rows = np.minimum(np.arange(out), 4096)
    reads = rows[:, None] * stride - padding + np.arange(taps)[None, :] * dilation
    valid = (reads >= 0) & (reads < size)
    forward = _counts(valid)
    # Turned round: for each input position, which (tap) reaches it from a valid output.
    reached = np.zeros((size, taps), dtype=bool)
    for tap in range(taps):
        inside = valid[:, tap]
        reached[reads[inside, tap], tap] = True
    return Line(forward, _counts(reached))


def _counts(valid: np.ndarray) -> Counts:
    n = len(valid)
    v = valid.astype(float)
    per_tap, per_row = v.sum(0), v.sum(1)
    same_same = per_row.mean()
    same_other = (per_row**2).mean() - same_same
    if n > 1:
        other_same = ((per_tap**2).sum() - per_tap.sum()) / (n * (n - 1))
        all_pairs = (per_row.sum() ** 2 - (per_row**2).sum()) / (n * (n - 1))
        other_other = all_pairs - other_same
    else:
        other_same, other_other = same_same, same_other
    return (float(same_same), float(same_other)), (float(other_same), float(other_other))


def with_bits(pairs: Array, axes: Axes, rank: int) -> Array:
    """Pair moments with one bit for each of ``rank`` axes, those of length 1 too."""
    axes = ((),) * (rank - len(axes)) + axes
    plain = fit(pairs, axes, plain_axes(shape_of(axes)))
    for position, axis in enumerate(axes):
        if not axis:
            plain = np.stack([plain, plain], axis=position)
    return plain


def without_bits(full: Array, shape: Sequence[int]) -> Array:
    """Back: axes of length 1 lose their bit."""
    for position in reversed(range(len(shape))):
        if shape[position] == 1:
            full = np.take(full, 0, position)
    return full


def spread(
    x: Array,
    w: Array,
    lines: Sequence[Counts],
    channels: int,
) -> Array:
    """Pair moments of Σ w x over channels and taps.

    Args:
        x: bits (sample, channel, *space).
        w: bits (output channel, input channel, *taps).
        lines: counts of valid tap pairs per spatial axis.
        channels: input channels of one group.

    Returns:
        Bits (sample, output channel, *space).
    """
    space = len(lines)
    sample, channel_out, channel_in = 0, 1, 2
    out_bits = list(range(3, 3 + space))
    tap_bits = list(range(3 + space, 3 + 2 * space))
    in_bits = list(range(3 + 2 * space, 3 + 3 * space))
    operands: list[object] = [
        x, [sample, channel_in, *in_bits], w, [channel_out, channel_in, *tap_bits],
        np.array([channels, channels * (channels - 1)], float), [channel_in],
    ]  # fmt: skip
    for k, counts in enumerate(lines):
        # Input positions agree only where neither the output position nor the tap differs.
        table = np.zeros((2, 2, 2))
        for i in range(2):
            for j in range(2):
                table[i, j, 1 if i or j else 0] = counts[i][j]
        operands += [table, [out_bits[k], tap_bits[k], in_bits[k]]]
    return np.asarray(
        np.einsum(*operands, [sample, channel_out, *out_bits], optimize="greedy")  # type: ignore[call-overload]
    )
