"""Orthogonal matrices, and the form of them that suits deep convolutional networks."""

import math
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch

from fanin.randomness.address import Address
from fanin.schemes.checks import require, require_number
from fanin.schemes.haar import haar
from fanin.schemes.matrix import Form, MatrixScheme
from fanin.schemes.scheme import Moments, Names, Numbered


@dataclass(frozen=True)
class Orthogonal(MatrixScheme):
    """W = gain·Q, Q uniform (Haar) over the matrices with orthonormal rows or columns.

    QᵀQ = I where there are at least as many outputs as inputs, else QQᵀ = I.  All singular values
    are ``gain``: the layer keeps lengths and angles.  A convolution is flattened to outputs ×
    (inputs × taps) as torch does, a transposed one to inputs × (outputs × taps).  Packed pieces,
    experts and groups of a convolution are each orthogonal on their own; torch takes a grouped
    weight as one matrix.

    The gaussians behind Q are the same everywhere.  Q itself is computed by the machine's matrix
    library: the same bits on the same machine and number of threads, the same up to rounding
    (about 1e-6) on another.  Each process that holds a slice builds the whole and keeps its part.

    Use: deep tanh networks (gain 1), recurrent weights.
    Paper: Saxe, McClelland & Ganguli, Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks, ICLR 2014; Haar by signs: Mezzadri, Notices AMS 54, 2007.

    Args:
        gain: every singular value.
    """

    gain: float = 1.0

    names: ClassVar[Names] = {"orthogonal": {}}
    numbered: ClassVar[Numbered] = {"orthogonal": lambda gain: {"gain": gain}}

    def __post_init__(self) -> None:
        require_number(self, "gain", least=0)

    def matrix_moments(self, form: Form) -> Moments:
        """Mean 0; ‖Q‖² is the lesser side, so std = gain/√(greater side)."""
        rows, columns = _sides(form)
        return Moments(0.0, self.gain / math.sqrt(max(rows, columns)), -self.gain, self.gain)

    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """gain·Q."""
        rows, columns = _sides(form)
        q = haar(address, first, count, rows, columns, dtype).mul_(self.gain)
        if form.transposed:
            return q.view(count, form.inputs, form.outputs, *form.taps).transpose(1, 2)
        return q.reshape(count, form.outputs, form.inputs, *form.taps)


def _sides(form: Form) -> tuple[int, int]:
    """Rows and columns of the flattened weight."""
    if form.transposed:
        return form.inputs, form.outputs * prod(form.taps)
    return form.outputs, form.inputs * prod(form.taps)


@dataclass(frozen=True)
class DeltaOrthogonal(MatrixScheme):
    """gain·Q on the middle tap of a convolution, with QᵀQ = I; zeros on every other tap.

    The convolution is then an isometry whatever the kernel, apart from the borders; an orthogonal
    flattened kernel is not.  A weight without a receptive field is plainly orthogonal.

    Use: deep plain convolutional networks (tanh, gain 1).
    Paper: Xiao et al., Dynamical Isometry and a Mean Field Theory of CNNs, ICML 2018.

    Args:
        gain: every singular value.
    """

    gain: float = 1.0

    names: ClassVar[Names] = {"delta_orthogonal": {}}
    numbered: ClassVar[Numbered] = {"delta_orthogonal": lambda gain: {"gain": gain}}

    def __post_init__(self) -> None:
        require_number(self, "gain", least=0)

    @property
    def on_middle_tap(self) -> bool:
        """True."""
        return True

    def matrix_moments(self, form: Form) -> Moments:
        """Mean 0; ‖Q‖² is the number of inputs."""
        require(
            not form.taps or form.outputs >= form.inputs,
            f"{self!r}: {form.inputs} inputs cannot keep their lengths in {form.outputs} outputs "
            "(per group). Use Orthogonal where a convolution has fewer outputs than inputs.",
        )
        norm = min(form.outputs, form.inputs)
        std = self.gain * math.sqrt(norm / form.elements)
        return Moments(0.0, std, -self.gain, self.gain)

    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """gain·Q on the middle tap."""
        q = haar(address, first, count, form.outputs, form.inputs, dtype)
        return form.on_centre(q.mul_(self.gain))
