"""Permutations, subsets and signs, each from addressed words."""

import numpy as np
import torch
from numpy.typing import NDArray

from fanin.errors import SchemeError
from fanin.randomness.address import Address
from fanin.randomness.arrays import NumpyArrays
from fanin.randomness.kernel import INTEGERS, kernel
from fanin.randomness.layout import Purpose, tile_words

_CHUNK = 1 << 18


def random_bits(address: Address, start: int, count: int) -> torch.Tensor:
    """63-bit numbers start … start + count - 1 of an address, as int64 of shape (count,).

    Two words make one number; the layout is that of float64.
    """
    if start < 0 or count < 0:
        raise SchemeError(f"numbers {start} … {start} + {count} - 1: give both at least 0.")
    drawn = torch.empty(count, dtype=torch.int64, device="cpu")
    compiled = kernel()
    if compiled is not None:
        compiled.fill(drawn, INTEGERS, address.key(), start, torch.get_num_threads())
        return drawn
    values, key = drawn.numpy(), address.key()
    done = 0
    while done < count:
        tile, skipped = divmod(start + done, 32)
        tiles = min(_CHUNK // 32, -(-(skipped + count - done) // 32))
        a, b, c, d = tile_words(NumpyArrays(), key, tile, tiles, Purpose.BITS)
        pairs = [(high >> 1) << 32 | low for high, low in ((a, b), (c, d))]
        piece = np.stack(pairs, 1).reshape(-1)[skipped : skipped + count - done]
        values[done : done + piece.size] = piece
        done += piece.size
    return drawn


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
    chosen = choice_mask(address, rows, row_length, k, first_row=first_row)
    return chosen.nonzero()[:, 1].reshape(rows, k)


def choice_mask(
    address: Address, rows: int, row_length: int, k: int, *, first_row: int = 0
) -> torch.Tensor:
    """The same choice as bool of shape (rows, row_length), True at the chosen columns."""
    if min(rows, row_length, first_row) < 0 or not 0 <= k <= row_length:
        raise SchemeError(
            f"cannot choose {k} of {row_length} columns for rows {first_row} … + {rows}. "
            "Give 0 <= k <= row_length and counts of at least 0."
        )
    mask = np.full((rows, row_length), k > 0)
    if 0 < k < row_length:
        step = max(1, _CHUNK // row_length)
        for row in range(0, rows, step):
            count = min(step, rows - row)
            start = (first_row + row) * row_length
            bits = random_bits(address, start, count * row_length)
            mask[row : row + count] = _smallest(bits.numpy().reshape(count, row_length), k)
    return torch.from_numpy(mask)


def _smallest(numbers: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Where the k smallest numbers of each row stand; of equal ones the first."""
    limit = np.partition(numbers, k - 1, axis=1)[:, k - 1 : k]
    mask = numbers <= limit
    # Equal numbers at the limit come once in about 2**63 / row_length rows.
    for row in np.flatnonzero(np.count_nonzero(mask, axis=1) != k):
        mask[row] = False
        mask[row, np.argsort(numbers[row], stable=True)[:k]] = True
    return mask


def signs(address: Address, start: int, count: int) -> torch.Tensor:
    """Signs start … start + count - 1 of an address: -1 or 1, as int8 of shape (count,)."""
    return ((random_bits(address, start, count) & 1) * 2 - 1).to(torch.int8)
