"""Sinusoidal weights: no randomness at all."""

import math
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch

from fanin.randomness.address import Address
from fanin.schemes.checks import require, require_number
from fanin.schemes.matrix import Form, MatrixScheme
from fanin.schemes.scheme import Moments, Names


@dataclass(frozen=True)
class Sinusoidal(MatrixScheme):
    """W[i, j] = a·sin(2π·i·j/n + 2π·i/m), i = 1 … m outputs, j = 0 … n − 1 inputs.

    Every unit is a wave of its own frequency and phase.  The amplitude a makes the variance over
    the whole matrix gain²·2/(n + m), Xavier's.  Two layers of one shape are equal; units are not.
    A convolution counts its taps among the inputs, in fan and pattern alike, and not among the
    outputs, as the paper's matrix view has it.

    Use: where a run must not depend on a seed.
    Paper: Fernández-Hernández et al., Sinusoidal Initialization, Time for a New Start, NeurIPS
    2025.

    Args:
        gain: multiplies the std.
    """

    gain: float = 1.0

    names: ClassVar[Names] = {"sinusoidal": {}}

    def __post_init__(self) -> None:
        require_number(self, "gain", least=0)

    def _pattern_moments(self, form: Form) -> tuple[float, float]:
        """Mean and variance of the pattern with amplitude 1, in closed form.

        Row i is a whole number of periods, hence has mean 0 and mean square ½, except where its
        frequency is a multiple of n (a constant) or of n/2 (an alternating sign).
        """
        m, n = form.outputs, form.inputs * prod(form.taps)
        i = torch.arange(1, m + 1)
        wave = torch.sin(i.double() * (2 * math.pi / m))
        constant = i % n == 0
        mean = float((wave * constant).sum()) / m
        square = torch.where((2 * i) % n == 0, wave.square(), 0.5)
        variance = float(square.sum()) / m - mean**2
        require(
            variance > 1e-9,
            f"{self!r}: the pattern of {m} outputs and {n} inputs is constant. Use another scheme "
            "for so small a matrix.",
        )
        return mean, variance

    def _std(self, form: Form) -> float:
        return self.gain * math.sqrt(2.0 / (form.outputs + form.inputs * prod(form.taps)))

    def matrix_moments(self, form: Form) -> Moments:
        """Std gain·√(2/(n + m)), bounds ± the amplitude."""
        mean, variance = self._pattern_moments(form)
        amplitude = self._std(form) / math.sqrt(variance)
        return Moments(mean * amplitude, self._std(form), -amplitude, amplitude)

    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """The pattern; the address plays no part."""
        m, n = form.outputs, form.inputs * prod(form.taps)
        i = torch.arange(1, m + 1)
        j = torch.arange(n)
        # Reduced modulo the period as integers, so that large frequencies lose no digits.
        turns = (i[:, None] * j % n).double() / n + i[:, None].double() / m
        _, variance = self._pattern_moments(form)
        wave = torch.sin(turns * (2 * math.pi)).mul_(self._std(form) / math.sqrt(variance))
        return (
            wave.view(form.outputs, form.inputs, *form.taps)
            .to(dtype)
            .expand(count, form.outputs, form.inputs, *form.taps)
        )
