"""Filling CUDA tensors by the Triton kernel."""

import logging
from functools import lru_cache
from itertools import pairwise

import torch

from fanin.randomness.address import Address, Region
from fanin.randomness.distributions import NormalDistribution
from fanin.randomness.kernel import kernel_constants, unpack
from fanin.randomness.specification import RandomDistribution

_LOG = logging.getLogger("fanin.randomness")
_KINDS = 4
"""The kernel knows the first four of the compiled kernel's kinds; the fitted ones are rare."""


def fill_by_triton(
    target: torch.Tensor, distribution: RandomDistribution, address: Address, region: Region
) -> bool:
    """Fill, and say so; False where Triton is missing or does not know the case."""
    with torch.cuda.device(target.device):
        return _kernel_works(target.device) and launch(target, distribution, address, region)


def launch(
    target: torch.Tensor, distribution: RandomDistribution, address: Address, region: Region
) -> bool:
    """Launch the kernel on a tensor that it can reach; False for a case that it does not know.

    It knows float32, bfloat16 and float16, contiguous targets, and regions that are evenly
    spaced rows of consecutive elements.
    """
    constants = kernel_constants(distribution, target.dtype)
    rows = rows_of(region)
    if constants is None or constants[0] >= _KINDS or rows is None:
        return False
    if target.dtype == torch.float64 or not target.is_contiguous():
        return False
    import fanin.randomness.triton_kernel as module

    count, step = rows
    tiles = -(-(63 + count) // 64)
    programs = -(-tiles * 16 // module.BLOCKS)
    key = address.key()
    numbers = (*unpack(constants), *[0.0] * 8)[:8]
    module.fill_rows[(programs * (target.numel() // count),)](
        target,
        region.first(),
        step,
        count,
        programs,
        _as_int32(key & 0xFFFFFFFF),
        _as_int32(key >> 32),
        *numbers,
        kind=constants[0],
        blocks=module.BLOCKS,
        enable_fp_fusion=False,
    )
    return True


def rows_of(region: Region) -> tuple[int, int] | None:
    """Length of the rows and their distance, if the region is evenly spaced rows; else None."""
    if region.is_run():
        return region.count(), 0
    steps = region.element_steps()
    # Grow the inner run from the last axis outwards, then the outer axis likewise.
    axis, count = len(steps), 1
    while axis > 0 and (region.size[axis - 1] == 1 or steps[axis - 1] == count):
        axis -= 1
        count *= region.size[axis]
    outer = [(n, s) for n, s in zip(region.size[:axis], steps[:axis], strict=True) if n > 1]
    if any(s != n_inner * s_inner for (_, s), (n_inner, s_inner) in pairwise(outer)):
        return None
    return count, outer[-1][1]


def _as_int32(word: int) -> int:
    # Triton types a Python integer by its size: always 32 bits, so as not to compile twice.
    return word - 2**32 if word >= 2**31 else word


@lru_cache(maxsize=64)
def _kernel_works(device: torch.device) -> bool:
    """Whether Triton is there and compiles the kernel, tried once a device."""
    try:
        import triton  # noqa: F401
    except ImportError:
        _LOG.debug("no Triton: the array program fills CUDA tensors")
        return False
    probe = torch.empty(64, device=device)
    tried = NormalDistribution(0.0, 1.0)
    try:
        launch(probe, tried, Address(0, ""), Region.whole((64,)))
    except Exception as error:
        # Whatever Triton's toolchain lacks, the bits are the same without it; but slow, so say it.
        _LOG.warning("Triton cannot compile (%s): the array program fills CUDA tensors", error)
        return False
    return True
