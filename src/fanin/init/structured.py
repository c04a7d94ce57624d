"""Identity, dirac, orthogonal and sparse matrices."""

import math

import torch
from torch import Generator, Tensor

from fanin.errors import SchemeError
from fanin.init.quick import orthogonal_filled_quickly
from fanin.init.writing import DivisionError, is_simulated, number, require_std, write_built
from fanin.randomness import Address, NormalDistribution, draw
from fanin.randomness.choice import choice_mask


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity.

    Args:
        tensor: two axes.
    """
    if tensor.ndimension() != 2:
        raise SchemeError("Only tensors with 2 dimensions are supported")
    if is_simulated(tensor):
        return tensor
    with torch.no_grad():
        torch.eye(*tensor.shape, out=tensor, requires_grad=tensor.requires_grad)
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution so that it passes on as many of its inputs as it can.

    Args:
        tensor: three, four or five axes.
        groups: groups of outputs, each of which repeats the identity.
    """
    if tensor.ndimension() not in (3, 4, 5):
        raise SchemeError("Only tensors with 3, 4, or 5 dimensions are supported")
    if groups == 0:
        raise DivisionError("dim 0 must be divisible by groups, but groups is 0")
    if tensor.size(0) % groups != 0:
        raise SchemeError("dim 0 must be divisible by groups")
    if is_simulated(tensor):
        return tensor
    outputs = tensor.size(0) // groups
    passed = torch.arange(min(outputs, tensor.size(1)), device=tensor.device)
    with torch.no_grad():
        tensor.zero_()
        middle = tensor
        for size in tensor.shape[2:]:
            middle = middle.select(2, size // 2)
        for group in range(groups):
            middle[group * outputs + passed, passed] = 1
    return tensor


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Fill with gain times a Haar-distributed (semi-)orthogonal matrix (Saxe et al. 2013).

    Axes after the first are flattened.

    Args:
        tensor: at least two axes.
        gain: scaling factor.
        generator: torch generator; None for the default one.
    """
    if tensor.ndimension() < 2:
        raise SchemeError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.size(0)
    columns = tensor.numel() // rows
    if orthogonal_filled_quickly(tensor, rows, columns, gain, generator):
        return tensor

    def build(address: Address) -> Tensor:
        from fanin.schemes.haar import haar

        dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        q = haar(address, 0, 1, rows, columns, dtype, tensor.device)[0]
        return q if gain == 1 else q.mul_(gain)

    return write_built(tensor, generator, build)


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Fill a matrix with N(0, std²), and ⌈sparsity·rows⌉ elements of each column with 0.

    Args:
        tensor: two axes.
        sparsity: share of each column that is 0.
        std: standard deviation of the others.
        generator: torch generator; None for the default one.
    """
    if tensor.ndimension() != 2:
        raise SchemeError("Only tensors with 2 dimensions are supported")
    if is_simulated(tensor):
        return tensor
    std = number(std)
    if not sparsity >= 0:
        raise SchemeError(f"sparsity must be at least 0, but found {sparsity}")
    require_std(std)
    rows, columns = tensor.shape
    zeros = min(rows, math.ceil(sparsity * rows))

    def build(address: Address) -> Tensor:
        dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        drawn = draw(NormalDistribution(0.0, std), address, (rows, columns), dtype=dtype)
        mask = choice_mask(address.child("zeros"), columns, rows, zeros)
        return drawn.masked_fill_(mask.t(), 0.0)

    return write_built(tensor, generator, build)
