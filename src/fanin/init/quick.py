"""The short way for nearly every call: a plain contiguous tensor on the CPU.

A small tensor is filled in less time than a chain of general checks takes.  What this way does
not know it leaves untouched, for ``writing`` to fill or to refuse.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Generator, Tensor, get_num_threads, strided
from torch.autograd.graph import increment_version

from fanin.errors import FaninError
from fanin.init.seeds import next_key
from fanin.init.writing import PLAIN, require_bounds
from fanin.randomness.distributions import NormalDistribution, UniformDistribution
from fanin.randomness.formats import FORMATS
from fanin.randomness.kernel import Constants, kernel, kernel_constants
from fanin.randomness.orthonormal import DECOMPOSED_COLUMNS, q_and_signs
from fanin.randomness.specification import RandomDistribution

_DECOMPOSED = (torch.float32, torch.float64)
"""What LAPACK decomposes."""


@lru_cache(maxsize=1024)
def normal_constants(mean: float, std: float, dtype: torch.dtype) -> Constants | None:
    """N(mean, std²) as the kernel takes it; None where it cannot be drawn."""
    return _constants(dtype, lambda: NormalDistribution(mean, std))


@lru_cache(maxsize=1024)
def uniform_constants(low: float, high: float, dtype: torch.dtype) -> Constants | None:
    """U(low, high) as the kernel takes it; None where it cannot be drawn."""

    def law() -> UniformDistribution:
        require_bounds(low, high, dtype)
        return UniformDistribution(low, high)

    return _constants(dtype, law)


def _constants(dtype: torch.dtype, law: Callable[[], RandomDistribution]) -> Constants | None:
    if dtype not in FORMATS:
        return None
    try:
        return kernel_constants(law(), dtype)
    except FaninError:
        return None


def filled_quickly(
    tensor: Tensor, constants: Constants | None, generator: Generator | None
) -> bool:
    """Fill a plain contiguous CPU tensor; False, and nothing done, for any other."""
    compiled = kernel()
    if constants is None or compiled is None or not _is_plain(tensor):
        return False
    key = next_key(generator)
    # First, so that an interrupted fill counts as a change too.
    increment_version(tensor)
    compiled.fill(tensor, constants, key, 0, get_num_threads())
    return True


def orthogonal_filled_quickly(
    tensor: Tensor, rows: int, columns: int, gain: float, generator: Generator | None
) -> bool:
    """Fill a small plain float tensor with an orthogonal matrix; False for any other.

    The same numbers as ``schemes.haar`` gives.
    """
    short, long = (columns, rows) if rows >= columns else (rows, columns)
    constants = normal_constants(0.0, 1.0, tensor.dtype) if tensor.dtype in _DECOMPOSED else None
    compiled = kernel()
    if constants is None or compiled is None or short > DECOMPOSED_COLUMNS:
        return False
    if not _is_plain(tensor):
        return False
    with torch.no_grad():
        gaussian = torch.empty((long, short), dtype=tensor.dtype, device="cpu")
        compiled.fill(gaussian, constants, next_key(generator), 0, get_num_threads())
        q, signs = q_and_signs(gaussian)
        matrix = tensor.view(rows, columns)
        out = matrix if rows >= columns else matrix.t()
        torch.mul(q, signs if gain == 1 else signs.mul_(gain), out=out)
    return True


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor's memory is a run of numbers and nothing else need be minded."""
    return (
        type(tensor) in PLAIN
        and tensor.is_cpu
        and tensor.layout == strided
        and tensor.is_contiguous()
        and not tensor.is_neg()
        and not tensor.is_inference()
    )
