"""Permutations, subsets and signs, each from addressed words."""

import torch

from fanin.errors import SchemeError
from fanin.randomness.address import Address
from fanin.randomness.arrays import TorchArrays
from fanin.randomness.layout import Purpose, tile_words

_CHUNK = 1 << 18


def random_bits(address: Address, start: int, count: int) -> torch.Tensor:
    """63-bit numbers start … start + count - 1 of an address, as int64 of shape (count,).

    Two words make one number; the layout is that of float64.
    """
    if start < 0 or count < 0:
        raise SchemeError(f"numbers {start} … {start} + {count} - 1: give both at least 0.")
    first, last = start // 32, -(-(start + count) // 32)
    parts = []
    key = address.key()
    for tile in range(first, last, _CHUNK // 32):
        tiles = min(_CHUNK // 32, last - tile)
        a, b, c, d = tile_words(TorchArrays(), key, tile, tiles, Purpose.BITS)
        pairs = [(high >> 1) << 32 | low for high, low in ((a, b), (c, d))]
        parts.append(torch.stack(pairs, 1).reshape(-1))
    if not parts:
        return torch.empty(0, dtype=torch.int64)
    return torch.cat(parts)[start - first * 32 :][:count]


def permutation(address: Address, n: int) -> torch.Tensor:
    """A uniformly random order of 0 … n - 1, as int64 of shape (n,)."""
    # Of n numbers of 63 bits two are equal with probability n² / 2**64; stable sorting then
    # still gives the same order everywhere.
    return torch.argsort(random_bits(address, 0, n), stable=True)


def choose(
    address: Address, rows: int, row_length: int, k: int, *, first_row: int = 0
) -> torch.Tensor:
    """For each row, k distinct columns out of ``row_length``, every subset equally likely.

    Row r depends on (address, r, row_length, k) alone, so that any rows can be drawn alone.

    Args:
        address: seed and name.
        rows: how many rows.
        row_length: columns of one row.
        k: columns to choose, 0 … row_length.
        first_row: number of the first row.

    Returns:
        int64 of shape (rows, k), ascending within each row.

    Raises:
        SchemeError: k is not within 0 … row_length, or a count is negative.
    """
    if min(rows, row_length, first_row) < 0 or not 0 <= k <= row_length:
        raise SchemeError(
            f"cannot choose {k} of {row_length} columns for rows {first_row} … + {rows}. "
            "Give 0 <= k <= row_length and counts of at least 0."
        )
    chosen = torch.empty((rows, k), dtype=torch.int64)
    step = max(1, _CHUNK // max(row_length, 1))
    for row in range(0, rows, step):
        count = min(step, rows - row)
        start = (first_row + row) * row_length
        bits = random_bits(address, start, count * row_length).view(count, row_length)
        order = torch.argsort(bits, dim=1, stable=True)
        chosen[row : row + count] = order[:, :k].sort(dim=1).values
    return chosen


def signs(address: Address, start: int, count: int) -> torch.Tensor:
    """Signs start … start + count - 1 of an address: -1 or 1, as int8 of shape (count,)."""
    return ((random_bits(address, start, count) & 1) * 2 - 1).to(torch.int8)
