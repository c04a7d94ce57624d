"""Writing drawn numbers into tensors: which of the kernels, or the array program, writes them."""

from collections.abc import Sequence

import torch

from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region
from fanin.randomness.array_fill import copy_into, fill_by_arrays
from fanin.randomness.checks import check_target
from fanin.randomness.distributions import ConstantDistribution, Distribution
from fanin.randomness.formats import FORMATS, format_of
from fanin.randomness.kernel import kernel, kernel_constants
from fanin.randomness.specification import RandomDistribution

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def fill(
    target: torch.Tensor,
    distribution: Distribution,
    address: Address,
    region: Region | None = None,
) -> None:
    """Write drawn numbers into a tensor in place.

    Args:
        target: float16, bfloat16, float32 or float64; any device and strides.  May require
            grad: the write is not recorded, as in ``torch.nn.init``.
        distribution: what to draw.
        address: seed and name of the whole tensor.
        region: which part of the whole tensor ``target`` holds; None for all of it.

    Raises:
        SchemeError: ``target`` is on the meta device, sparse, a DTensor, overlaps itself, is of
            another dtype or not of the region's shape, or the distribution does not fit its
            dtype; it is then untouched.
    """
    # The common case first, and quickly: a model has hundreds of small tensors.
    plain = type(target) in _PLAIN and target.dtype in FORMATS and target.layout == torch.strided
    on_cpu = plain and target.is_cpu and not target.is_neg()
    compact = on_cpu and target.is_contiguous()
    if not compact or region is not None:
        check_target(target, region)
    if isinstance(distribution, ConstantDistribution):
        largest = torch.finfo(target.dtype).max
        if abs(distribution.value) > largest:
            dtype = str(target.dtype).removeprefix("torch.")
            raise SchemeError(
                f"{distribution.value:g} is beyond {dtype}, whose largest number is {largest:g}. "
                "Give a smaller value."
            )
        with torch.no_grad():
            target.fill_(distribution.value)
        return
    constants = kernel_constants(distribution, target.dtype)
    if target.numel() == 0:
        return
    chosen = kernel() if on_cpu else None
    if chosen is not None and constants is not None:
        key, threads = address.key(), torch.get_num_threads()
        if not target.is_inference():
            # First, so that an interrupted fill counts as a change too.
            torch.autograd.graph.increment_version(target)
        if compact and (region is None or region.is_run()):
            first = 0 if region is None else region.first()
            chosen.fill(target, constants, key, first, threads)
        else:
            region = region or Region.whole(target.shape)
            steps = region.element_steps()
            chosen.fill_strided(target, constants, key, region.first(), steps, threads)
        return
    _fill_otherwise(target, distribution, address, region or Region.whole(target.shape))


def fills_for_certain(target: torch.Tensor, distribution: Distribution) -> bool:
    """Whether ``fill`` of this tensor, already checked, cannot fail.

    The compiled kernel writes straight into the memory of a CPU tensor and allocates nothing;
    whatever else fills may run out of memory, or out of a device.
    """
    plain = type(target) in _PLAIN and target.layout == torch.strided and target.is_cpu
    if not plain or target.is_neg() or target.dtype not in FORMATS:
        return False
    if isinstance(distribution, ConstantDistribution):
        return abs(distribution.value) <= torch.finfo(target.dtype).max
    return kernel() is not None and kernel_constants(distribution, target.dtype) is not None


@torch.no_grad()
def _fill_otherwise(
    target: torch.Tensor, distribution: RandomDistribution, address: Address, region: Region
) -> None:
    plain = type(target) in _PLAIN
    if plain and target.is_cuda:
        from fanin.randomness.triton_fill import fill_by_triton

        if not fill_by_triton(target, distribution, address, region):
            fill_by_arrays(target, distribution, address, region)
    elif plain and target.is_cpu and not target.is_neg():
        fill_by_arrays(target, distribution, address, region)
    else:
        # Other devices' arithmetic is not known to be IEEE's, and a subclass's storage is its
        # own affair: the CPU draws, copy_ moves.
        copy_into(target, region, lambda part, piece: fill(part, distribution, address, piece))


def draw(
    distribution: Distribution,
    address: Address,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    region: Region | None = None,
) -> torch.Tensor:
    """A new tensor of drawn numbers: the whole tensor of this shape, or a region of it.

    Args:
        distribution: what to draw.
        address: seed and name.
        shape: shape of the whole tensor.
        dtype: float16, bfloat16, float32 or float64.
        device: where the tensor lives.
        region: the part to draw; its ``shape`` must be ``shape``.

    Raises:
        SchemeError: wrong dtype, or a region of another tensor.
    """
    if region is not None and region.shape != tuple(shape):
        raise SchemeError(
            f"the region is of a tensor of shape {region.shape}, not {tuple(shape)}. "
            "Give the shape of the whole tensor."
        )
    format_of(dtype)
    size = shape if region is None else region.size
    target = torch.empty(tuple(size), dtype=dtype, device=device)
    fill(target, distribution, address, region)
    return target


def draw_range(
    distribution: Distribution,
    address: Address,
    start: int,
    count: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Elements start … start + count - 1, counted row-major over the whole tensor.

    Raises:
        SchemeError: wrong dtype, or a range outside 0 … 2**63 - 2.
    """
    if start < 0 or count < 0 or start + count >= 2**63:
        raise SchemeError(
            f"elements {start} … {start} + {count} - 1 are not within 0 … 2**63 - 2. "
            "Give a start and a count of at least 0."
        )
    region = Region((start + count,), (start,), (count,))
    return draw(distribution, address, (start + count,), dtype=dtype, device=device, region=region)
