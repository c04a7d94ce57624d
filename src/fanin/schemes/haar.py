"""Random orthogonal matrices, uniform over all of them, from addressed normals."""

import torch

from fanin.randomness import Address, NormalDistribution, Region, draw
from fanin.randomness.orthonormal import (
    DECOMPOSED_COLUMNS,
    q_by_decomposition,
    q_by_reflections,
)

_STANDARD_NORMAL = NormalDistribution(0.0, 1.0)


def haar(
    address: Address,
    first: int,
    count: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Matrices number ``first`` to ``first + count - 1`` of an address, each Haar on its own.

    Returns:
        ``(count, rows, columns)`` on the device: columns orthonormal where rows >= columns, else
        rows orthonormal.
    """
    if rows < columns:
        return haar(address, first, count, columns, rows, dtype, device).transpose(1, 2)
    shape = (first + count, rows, columns)
    # The whole needs no region, and goes a shorter way.
    region = Region(shape, (first, 0, 0), (count, rows, columns)) if first else None
    gaussian = draw(_STANDARD_NORMAL, address, shape, dtype=dtype, device=device, region=region)
    if columns <= DECOMPOSED_COLUMNS:
        return q_by_decomposition(gaussian)
    # The larger the matrix, the more a pass over it costs, and the wider a block pays (measured).
    block = 64 if columns < 1536 else 128 if columns < 3072 else 256
    return q_by_reflections(gaussian, block)
