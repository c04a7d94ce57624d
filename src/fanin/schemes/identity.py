"""Identity matrices and identity convolutions."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from fanin.randomness.address import Address
from fanin.schemes.checks import require, require_number
from fanin.schemes.matrix import Form, MatrixScheme
from fanin.schemes.scheme import Moments, Names, Numbered


@dataclass(frozen=True)
class Identity(MatrixScheme):
    """gain on the diagonal, 0 elsewhere; on the middle tap of a convolution.

    Where the sides differ, as many inputs as possible are passed on.

    Use: recurrent weights of a ReLU network (IRNN, with bias 0); the extra layers of a network
    that grows.
    Paper: Le, Jaitly & Hinton, A Simple Way to Initialize Recurrent Networks of Rectified Linear
    Units, 2015.

    Args:
        gain: the diagonal.
    """

    gain: float = 1.0

    names: ClassVar[Names] = {"identity": {}, "eye": {}}
    numbered: ClassVar[Numbered] = {"identity": lambda gain: {"gain": gain}}

    def __post_init__(self) -> None:
        require_number(self, "gain")

    @property
    def on_middle_tap(self) -> bool:
        """True."""
        return True

    def matrix_moments(self, form: Form) -> Moments:
        """min(outputs, inputs) elements equal ``gain``, the others 0."""
        return _of_ones(min(form.outputs, form.inputs) / form.elements, self.gain)

    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """The diagonal, on the middle tap."""
        eye = torch.eye(form.outputs, form.inputs, dtype=dtype) * self.gain
        return form.on_centre(eye.expand(count, -1, -1))


@dataclass(frozen=True)
class Dirac(MatrixScheme):
    """A convolution that passes its inputs on: 1 at (i, i, middle tap), 0 elsewhere.

    In a grouped convolution each group does so.  ``groups`` splits the outputs further, each part
    repeating the identity, as ``torch.nn.init.dirac_(w, groups)`` does.

    Use: residual-free networks that start as the identity.
    Paper: Zagoruyko & Komodakis, DiracNets, 2017.

    Args:
        groups: parts of the outputs that each repeat the identity.
    """

    groups: int = 1

    names: ClassVar[Names] = {"dirac": {}}

    def __post_init__(self) -> None:
        require(
            isinstance(self.groups, int) and self.groups >= 1, f"{self!r}: groups must be >= 1."
        )

    @property
    def on_middle_tap(self) -> bool:
        """True."""
        return True

    def _parts(self, form: Form) -> int:
        """How many identities stand in one matrix.

        A convolution whose own groups are known needs no further split for them.
        """
        return 1 if form.groups == self.groups else self.groups

    def matrix_moments(self, form: Form) -> Moments:
        """min(outputs of a part, inputs) ones in each part."""
        parts = self._parts(form)
        require(
            form.outputs % parts == 0,
            f"{self!r}: {form.outputs} outputs do not split into {parts} groups. Give a divisor.",
        )
        return _of_ones(parts * min(form.outputs // parts, form.inputs) / form.elements, 1.0)

    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """One identity a part, on the middle tap."""
        parts = self._parts(form)
        eye = torch.eye(form.outputs // parts, form.inputs, dtype=dtype).repeat(parts, 1)
        return form.on_centre(eye.expand(count, -1, -1))


def _of_ones(share: float, value: float) -> Moments:
    """Moments where this share of the elements equals ``value`` and the others are 0."""
    std = abs(value) * math.sqrt(share * (1 - share))
    low = value if share == 1 else min(0.0, value)
    high = value if share == 1 else max(0.0, value)
    return Moments(share * value, std, low, high)
