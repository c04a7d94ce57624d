"""The direction in which an output is differentiated where no loss was given.

It is a fixed one for each shape, so that what is predicted and what is measured are gradients of
one and the same number. Its own pair moments matter where outputs are few: two samples whose
gradients happen to point the same way cancel in a batch norm.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch

from fanin.propagation.data_moments import pair_moments_of
from fanin.propagation.layout import Axes, atoms_of, fit, plain_axes, shape_of
from fanin.propagation.quadrature import Array

SEED = 0x66616E696E  # "fanin": users seed inputs with 0, and must not draw this tensor
MOST_COUNTED = 1 << 16
"""Directions of more elements count as strangers: their correlations are below 1/√n."""


def direction(shape: Sequence[int]) -> torch.Tensor:
    """Normal numbers of unit RMS, the same for every call with one shape."""
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randn(tuple(shape), generator=generator)
    return drawn / drawn.square().mean().sqrt()


def pairs_of_direction(axes: Axes) -> Array:
    """Pair moments of the direction of an output."""
    shape = shape_of(axes)
    if not 0 < prod(shape) <= MOST_COUNTED:
        strangers = np.zeros((2,) * len(atoms_of(axes)))
        strangers.flat[0] = 1.0
        return strangers
    drawn = direction(shape).double().numpy()
    pairs = pair_moments_of(drawn.reshape([n for n in shape if n != 1]))
    return fit(pairs, plain_axes(shape), axes)
