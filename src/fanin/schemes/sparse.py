"""Sparse weights: a fixed number of zeros at random places of every unit."""

import math
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch

from fanin import randomness
from fanin.randomness.address import Address, Region
from fanin.randomness.choice import choice_mask
from fanin.randomness.distributions import NormalDistribution
from fanin.schemes.checks import require, require_number
from fanin.schemes.matrix import Form, MatrixScheme
from fanin.schemes.scheme import Moments, Names, Numbered


@dataclass(frozen=True)
class Sparse(MatrixScheme):
    """N(0, std²), and ⌈sparsity·n⌉ of the n incoming weights of every unit set to 0.

    Martens limits the weights that come into each unit (to 15); so does this.
    ``torch.nn.init.sparse_`` cites him but zeroes within columns, the weights that leave an input.

    Use: legacy networks with saturating units.
    Paper: Martens, Deep learning via Hessian-free optimization, ICML 2010.

    Args:
        sparsity: share of each unit's weights that is 0, from 0 to 1.
        std: standard deviation of the others.
    """

    sparsity: float = 0.1
    std: float = 0.01

    names: ClassVar[Names] = {"sparse": {}}
    numbered: ClassVar[Numbered] = {"sparse": lambda sparsity: {"sparsity": sparsity}}

    def __post_init__(self) -> None:
        require_number(self, "sparsity", least=0)
        require(self.sparsity <= 1, f"{self!r}: sparsity must lie between 0 and 1.")
        require_number(self, "std", least=0)

    def _zeros(self, row: int) -> int:
        return math.ceil(self.sparsity * row)

    def matrix_moments(self, form: Form) -> Moments:
        """Mean 0; std·√(share of nonzeros)."""
        row = form.inputs * prod(form.taps)
        return Moments(0.0, self.std * math.sqrt(1 - self._zeros(row) / row))

    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """Addressed normals with addressed zeros."""
        row = form.inputs * prod(form.taps)
        shape = (first + count, form.outputs, row)
        region = Region(shape, (first, 0, 0), (count, form.outputs, row))
        normal = NormalDistribution(0.0, float(self.std))
        w = randomness.draw(normal, address, shape, dtype=dtype, region=region)
        zeros = choice_mask(
            address.child("zeros"),
            count * form.outputs,
            row,
            self._zeros(row),
            first_row=first * form.outputs,
        )
        w.view(-1, row).masked_fill_(zeros, 0.0)
        return w.view(count, form.outputs, form.inputs, *form.taps)
