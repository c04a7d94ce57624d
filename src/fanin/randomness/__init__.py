"""Numbers with addresses: every drawn value is a function of seed, name and index alone."""

from fanin.randomness.address import STREAM_VERSION, Address, Region
from fanin.randomness.choice import choose, permutation, random_bits, signs
from fanin.randomness.distributions import (
    ConstantDistribution,
    Distribution,
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
)
from fanin.randomness.fill import draw, draw_range, fill
from fanin.randomness.kernel import kernel_in_use

__all__ = [
    "STREAM_VERSION",
    "Address",
    "ConstantDistribution",
    "Distribution",
    "NormalDistribution",
    "Region",
    "TruncatedNormalDistribution",
    "UniformDistribution",
    "choose",
    "draw",
    "draw_range",
    "fill",
    "kernel_in_use",
    "permutation",
    "random_bits",
    "signs",
]
