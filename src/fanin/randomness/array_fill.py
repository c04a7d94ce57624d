"""Filling by the array program, piece by piece."""

from collections.abc import Callable, Iterator

import torch

from fanin.randomness.address import Address, Region
from fanin.randomness.arrays import TorchArrays
from fanin.randomness.specification import RandomDistribution, Specification

_PIECE = 1 << 18
"""Elements of one piece: the array program's temporaries stay under 64 MiB."""


def fill_by_arrays(
    target: torch.Tensor, distribution: RandomDistribution, address: Address, region: Region
) -> None:
    """Write the region into a tensor on the CPU or a CUDA device, drawing on that device."""
    xp = TorchArrays(target.device)
    program = Specification(xp, distribution, address.key(), target.dtype)
    for part, piece in _pieces(target, region):
        if piece.is_run():
            part.copy_(program.range(piece.first(), part.numel()).view(part.shape))
            continue
        index = torch.full((), piece.first(), dtype=torch.int64, device=xp.device)
        for size, step in zip(piece.size, piece.element_steps(), strict=True):
            index = index.unsqueeze(-1) + xp.range(0, size) * step
        part.copy_(program.at(index))


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
