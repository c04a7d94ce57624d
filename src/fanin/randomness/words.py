"""Random words as fractions."""

from fanin.randomness.arrays import Array, Arrays

SIGN = 0x80000000
HALF_LOW = 0x7FFFFFFF


def as_int32(xp: Arrays, word: Array) -> Array:
    """A word 0 … 2**32 - 1, held in int64, as the int32 of the same bits."""
    return xp.cast((word ^ SIGN) - SIGN, "int32")


def signed_single(xp: Arrays, word: Array) -> Array:
    """A float32 in [-1, 1]: the word as a signed integer, over 2**31."""
    return xp.cast(as_int32(xp, word), "float32") * 2.0**-31


def signed_double(xp: Arrays, high: Array, low: Array) -> Array:
    """A float64 in [-1, 1) with 53 random bits: 32 of ``high``, the upper 21 of ``low``."""
    fraction = ((high ^ SIGN) - SIGN) * 2**21 + (low >> 11)
    return xp.cast(fraction, "float64") * 2.0**-52
