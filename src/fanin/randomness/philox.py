"""Philox4x32: a counter and a key in, four random 32-bit words out.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.  The same
inputs give the same words everywhere, which is what makes every number addressable.
"""

from fanin.randomness.arrays import Array, Arrays

ROUNDS = 7
"""Rounds of the stream.  Salmon et al. report that 7 pass BigCrush; see docs/randomness.md."""

MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
KEY_STEP_0 = 0x9E3779B9  # the golden ratio
KEY_STEP_1 = 0xBB67AE85  # sqrt(3) - 1

_LOW = 0xFFFFFFFF


def philox(
    xp: Arrays, counter: tuple[Array, Array, Array, Array], key: int, rounds: int = ROUNDS
) -> tuple[Array, Array, Array, Array]:
    """Four words for each counter.

    Args:
        xp: the array library.
        counter: four int64 arrays (or ints) of values 0 … 2**32 - 1.
        key: 64 bits; the low half is the first key word.
        rounds: 10 or 7 have published known answers.

    Returns:
        Four int64 arrays of values 0 … 2**32 - 1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key & _LOW, key >> 32
    for _ in range(rounds):
        high0, low0 = _multiply(c0, MULTIPLIER_0)
        high1, low1 = _multiply(c2, MULTIPLIER_1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_STEP_0) & _LOW, (k1 + KEY_STEP_1) & _LOW
    return c0, c1, c2, c3


def _multiply(a: Array, b: int) -> tuple[Array, Array]:
    """High and low 32 bits of a product of two 32-bit numbers held in int64."""
    # Halving b keeps every intermediate below 2**63, so that a Python int gives what an int64
    # array gives, and no shift meets a sign bit.
    low_product = a * (b & 0xFFFF)
    high_product = a * (b >> 16) + (low_product >> 16)
    return high_product >> 16, ((high_product & 0xFFFF) << 16) | (low_product & 0xFFFF)
