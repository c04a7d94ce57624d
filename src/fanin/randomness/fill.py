"""Writing drawn numbers into tensors: checks, then the kernel or the array program."""

from collections.abc import Iterator, Sequence
from math import prod

import torch

from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region
from fanin.randomness.arrays import TorchArrays
from fanin.randomness.distributions import ConstantDistribution, Distribution
from fanin.randomness.formats import format_of
from fanin.randomness.specification import RandomDistribution, Specification

_CHUNK = 1 << 18
"""Elements that the array program draws at once: its temporaries stay under 64 MiB."""


@torch.no_grad()
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
        SchemeError: ``target`` is on the meta device, sparse, overlaps itself, is of another
            dtype or not of the region's shape; it is then untouched.
    """
    if region is None:
        region = Region.whole(target.shape)
    _check(target, region)
    if isinstance(distribution, ConstantDistribution):
        target.fill_(distribution.value)
        return
    if target.numel() == 0:
        return
    _fill_by_arrays(target, distribution, address, region)


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
    if region is None:
        region = Region.whole(shape)
    elif region.shape != tuple(shape):
        raise SchemeError(
            f"the region is of a tensor of shape {region.shape}, not {tuple(shape)}. "
            "Give the shape of the whole tensor."
        )
    format_of(dtype)
    target = torch.empty(region.size, dtype=dtype, device=device)
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
        SchemeError: wrong dtype, or a range outside 0 … 2**63 - 1.
    """
    if start < 0 or count < 0 or start + count >= 2**63:
        raise SchemeError(
            f"elements {start} … {start} + {count} - 1 are not within 0 … 2**63 - 2. "
            "Give a start and a count of at least 0."
        )
    region = Region((start + count,), (start,), (count,))
    return draw(distribution, address, (start + count,), dtype=dtype, device=device, region=region)


def _check(target: torch.Tensor, region: Region) -> None:
    what = f"tensor of shape {tuple(target.shape)} and dtype {target.dtype}"
    format_of(target.dtype)
    if target.is_meta:
        raise SchemeError(
            f"cannot fill a {what} on the meta device: it has no memory. "
            "Move the module off it first with module.to_empty(device=...)."
        )
    if target.layout != torch.strided:
        raise SchemeError(f"cannot fill a {what} of layout {target.layout}. Give a dense tensor.")
    if tuple(target.shape) != region.size:
        raise SchemeError(
            f"cannot fill a {what} with a region of size {region.size}. "
            "The region's size must be the tensor's shape."
        )
    if _may_overlap(target):
        raise SchemeError(
            f"cannot fill a {what} and strides {target.stride()}: elements share memory. "
            "Fill the tensor that it was expanded from, or a clone."
        )


def _may_overlap(target: torch.Tensor) -> bool:
    """Whether two elements may lie at one place: an axis steps inside the span of finer ones."""
    if target.is_contiguous():
        return False
    span = 0
    for stride, size in sorted(zip(target.stride(), target.shape, strict=True)):
        if size > 1:
            if stride <= span:
                return True
            span += stride * (size - 1)
    return False


def _fill_by_arrays(
    target: torch.Tensor, distribution: RandomDistribution, address: Address, region: Region
) -> None:
    # Other devices' arithmetic is not known to be IEEE's: there the CPU draws and the copy moves.
    xp = TorchArrays(target.device if target.device.type == "cuda" else "cpu")
    program = Specification(xp, distribution, address.key(), target.dtype)
    for part, piece in _pieces(target, region):
        strides = _element_strides(piece)
        first = sum(i * s for i, s in zip(piece.start, _row_major(piece.shape), strict=True))
        if _is_run(piece.size, strides):
            part.copy_(program.range(first, part.numel()).view(part.shape))
            continue
        index = torch.zeros((), dtype=torch.int64, device=xp.device) + first
        for size, stride in zip(piece.size, strides, strict=True):
            index = index.unsqueeze(-1) + xp.range(0, size) * stride
        part.copy_(program.at(index))


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _element_strides(region: Region) -> tuple[int, ...]:
    """How far apart neighbours along each axis of the region are in the whole tensor."""
    return tuple(a * b for a, b in zip(_row_major(region.shape), region.step, strict=True))


def _is_run(size: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the elements are consecutive in the whole tensor."""
    expected = 1
    for count, stride in zip(reversed(size), reversed(strides), strict=True):
        if count > 1 and stride != expected:
            return False
        expected *= count
    return True


def _pieces(target: torch.Tensor, region: Region) -> Iterator[tuple[torch.Tensor, Region]]:
    """Cut a tensor and its region into matching pieces of at most ``_CHUNK`` elements."""
    if target.numel() <= _CHUNK:
        yield target, region
        return
    axis = next(axis for axis, size in enumerate(target.shape) if size > 1)
    rest = target.numel() // target.shape[axis]
    step = max(1, _CHUNK // rest)
    for start in range(0, target.shape[axis], step):
        size = min(step, target.shape[axis] - start)
        yield from _pieces(target.narrow(axis, start, size), region.narrow(axis, start, size))
