"""The Triton kernel for CUDA tensors; same bits as the array program."""

import torch

from fanin.randomness.address import Address, Region
from fanin.randomness.specification import RandomDistribution


def fill_by_triton(
    target: torch.Tensor, distribution: RandomDistribution, address: Address, region: Region
) -> bool:
    """Fill, and say so; False where Triton is missing or does not know the case."""
    return False
