"""Cases that every kernel must draw alike."""

import math

import torch

from fanin.randomness import (
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

# One distribution for every path through every law: the general quantile without and with its
# tail polynomial, and each of the three fitted ones, in both directions.
DISTRIBUTIONS = {
    "uniform": UniformDistribution(-0.1, 0.1),
    "uniform_lopsided": UniformDistribution(0.3, 7.0),
    "normal": NormalDistribution(0.0, 0.02),
    "normal_shifted": NormalDistribution(-3.0, 1.5),
    "truncated_2_sigma": TruncatedNormalDistribution(0.0, 0.02, -0.04, 0.04),
    "truncated_wide": TruncatedNormalDistribution(0.5, 1.0, -2.0, 8.0),
    "truncated_never": TruncatedNormalDistribution(0.0, 0.02, -2.0, 2.0),
    "truncated_far": TruncatedNormalDistribution(0.0, 0.02, -0.1, 0.2),
    "truncated_one_side": TruncatedNormalDistribution(1.0, 2.0, 0.0, math.inf),
    "truncated_narrow": TruncatedNormalDistribution(0.0, 1.0, 1.0, 1.1),
    "truncated_near_tail": TruncatedNormalDistribution(0.0, 1.0, 2.5, math.inf),
    "truncated_far_tail": TruncatedNormalDistribution(0.0, 1.0, -math.inf, -9.0),
}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same bytes; NaN and the sign of zero count."""
    kind = BITS[a.element_size()]
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(kind), b.contiguous().view(kind))
