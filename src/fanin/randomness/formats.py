"""Floating-point formats: which numbers a dtype holds, and the nearest ones inside two bounds."""

import struct
from dataclasses import dataclass
from math import floor, frexp, inf, isinf, ldexp

import torch

from fanin.errors import SchemeError


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: significant bits, smallest quantum, largest number."""

    significant_bits: int
    smallest_exponent: int
    largest: float

    def floor(self, value: float) -> float:
        """The largest number of this format that is not above ``value``."""
        if isinf(value) or value == 0:
            return value
        if value > self.largest:
            return self.largest
        if value < -self.largest:
            return -inf
        exponent = max(frexp(value)[1] - self.significant_bits, self.smallest_exponent)
        return ldexp(floor(ldexp(value, -exponent)), exponent)

    def ceil(self, value: float) -> float:
        """The smallest number of this format that is not below ``value``."""
        return -self.floor(-value)

    def nearest(self, value: float) -> float:
        """The number of this format next to ``value``; halfway, the one nearer to zero."""
        below, above = self.floor(value), self.ceil(value)
        down, up = value - below, above - value
        if down == up:
            return below if abs(below) <= abs(above) else above
        return below if down < up else above


FORMATS: dict[torch.dtype, Format] = {
    torch.float16: Format(11, -24, 65504.0),
    torch.bfloat16: Format(8, -133, ldexp(255, 120)),
    torch.float32: Format(24, -149, ldexp(2**24 - 1, 104)),
    torch.float64: Format(53, -1074, ldexp(2**53 - 1, 971)),
}


def format_of(dtype: torch.dtype) -> Format:
    """The format of a dtype that can be filled.

    Raises:
        SchemeError: an integer, boolean, complex or 8-bit dtype.
    """
    found = FORMATS.get(dtype)
    if found is None:
        raise SchemeError(
            f"cannot draw random numbers as {dtype}. "
            "Give a tensor of float32, bfloat16, float16 or float64."
        )
    return found


def bounds_inside(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    """The outermost numbers of a dtype within low … high; one number if none lies within."""
    found = format_of(dtype)
    # Adding zero turns a negative zero into a positive one, which min and max need not.
    inner = found.ceil(low) + 0.0, found.floor(high) + 0.0
    if inner[0] > inner[1]:
        only = found.nearest(low)
        return only, only
    return inner


def single(value: float) -> float:
    """A double rounded to float32 (nearest, ties to even), as the kernels receive it.

    ``value`` must fit float32.
    """
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return float(rounded)
