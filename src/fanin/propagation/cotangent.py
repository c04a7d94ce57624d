"""The direction in which an output is differentiated where no loss was given.

It is a fixed one for each shape, so that what is predicted and what is measured are gradients of
one and the same number. Its own pair moments matter where outputs are few: two samples whose
gradients happen to point the same way cancel in a batch norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from fanin.propagation.data_moments import pair_moments_of
from fanin.propagation.layout import Axes, atoms_of, fit, plain_axes, shape_of
from fanin.propagation.profile import Profile, settled
from fanin.propagation.quadrature import Array

SEED = 0x66616E696E  # "fanin": users seed inputs with 0, and must not draw this tensor
_NEXT, _BELOW = 1_000_003, (1 << 61) - 1
MOST_PLACED = 1 << 12
"""Directions of more elements count as even from place to place."""
MOST_COUNTED = 1 << 16
"""Directions of more elements count as strangers: their correlations are below 1/√n."""


def direction(shape: Sequence[int]) -> torch.Tensor:
    """Normal numbers of unit RMS, the same for every call with one shape.

    Outputs of as many numbers in another shape have a direction of their own: along one and the
    same, gradients of a model's streams would add up.
    """
    seed = SEED
    for n in shape:
        seed = (seed * _NEXT + n + 1) % _BELOW
    generator = torch.Generator().manual_seed(seed)
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


@dataclass(frozen=True)
class Seed:
    """The gradient with which the backward pass starts at a tensor.

    Args:
        pairs: its pair moments.
        profile: its powers place by place, where they are known.
    """

    pairs: Array
    profile: Profile


def seed_of_direction(axes: Axes, times: int = 1) -> Seed:
    """The direction of an output that is returned so often.

    The node of a graph whose numbers happen to point along nothing sends nothing back.
    """
    shape = shape_of(axes)
    pairs = times**2 * pairs_of_direction(axes)
    if not 1 < prod(shape) <= MOST_PLACED:
        return Seed(pairs, None)
    return Seed(pairs, settled(direction(shape).double().square().numpy())[0])
