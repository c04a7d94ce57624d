"""Filling by the array program, piece by piece."""

from collections.abc import Callable, Iterator

import torch

from fanin.randomness.address import Address, Region
from fanin.randomness.arrays import Array, Arrays, NumpyArrays, TorchArrays
from fanin.randomness.specification import RandomDistribution, Specification

_PIECE = 1 << 16
"""Elements of one piece: the array program's temporaries stay in the cache."""


def fill_by_arrays(
    target: torch.Tensor, distribution: RandomDistribution, address: Address, region: Region
) -> None:
    """Write the region into a tensor on the CPU or a CUDA device, drawing there."""
    # NumPy is twice as quick as eager torch on these short arrays.
    on_cpu = target.device.type == "cpu"
    xp: Arrays = NumpyArrays() if on_cpu else TorchArrays(target.device)
    program = Specification(xp, distribution, address.key(), target.dtype)
    for part, piece in _pieces(target, region):
        if piece.is_run():
            values = program.range(piece.first(), part.numel()).reshape(piece.size)
        else:
            values = program.at(_indices(xp, piece))
        part.copy_(torch.from_numpy(values) if on_cpu else values)


def _indices(xp: Arrays, region: Region) -> Array:
    """The row-major number, in the whole tensor, of every element of a region."""
    index = xp.range(region.first(), 1).reshape(())
    for size, step in zip(region.size, region.element_steps(), strict=True):
        index = index[..., None] + xp.range(0, size) * step
    return index


def copy_into(
    target: torch.Tensor, region: Region, fill_part: Callable[[torch.Tensor, Region], None]
) -> None:
    """Let ``fill_part`` fill pieces on the CPU, and copy each to its place in ``target``."""
    for part, piece in _pieces(target, region):
        drawn = torch.empty(piece.size, dtype=target.dtype)
        fill_part(drawn, piece)
        part.copy_(drawn)


def _pieces(target: torch.Tensor, region: Region) -> Iterator[tuple[torch.Tensor, Region]]:
    """Cut a tensor and its region into matching pieces of at most ``_PIECE`` elements."""
    if target.numel() <= _PIECE:
        yield target, region
        return
    axis = next(axis for axis, size in enumerate(target.shape) if size > 1)
    rest = target.numel() // target.shape[axis]
    step = max(1, _PIECE // rest)
    for start in range(0, target.shape[axis], step):
        size = min(step, target.shape[axis] - start)
        yield from _pieces(target.narrow(axis, start, size), region.narrow(axis, start, size))
