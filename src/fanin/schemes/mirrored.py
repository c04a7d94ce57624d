"""Mirrored, also called looks-linear, orthogonal weights."""

import math
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import torch

from fanin.randomness.address import Address
from fanin.schemes.checks import require, require_choice, require_number
from fanin.schemes.haar import haar
from fanin.schemes.matrix import Form, MatrixScheme
from fanin.schemes.scheme import Moments, Names, Numbered


@dataclass(frozen=True)
class Mirrored(MatrixScheme):
    """W = gain·[[Q, −Q], [−Q, Q]] with Q orthogonal; a convolution's is on its middle tap.

    Units stand in opposite pairs.  For an activation with φ(x) − φ(−x) = c·x a pair passes c·x
    on, so a stack of such layers is exactly an orthogonal linear map at the start, however deep.
    c = 1 for ReLU, GELU, SiLU, hard-swish, softplus and log-sigmoid; 1 + a for leaky ReLU of slope
    a (take gain 1/(1 + a)).  Mish, ELU and SELU do not satisfy it.

    A first layer, whose inputs are data, mirrors its outputs only: [Q; −Q].  A last one mirrors
    its inputs only: [Q, −Q].

    Use: deep plain stacks without norm or skip; dense layers and, by the middle tap, convolutions.
    Paper: Balduzzi et al., The Shattered Gradients Problem, ICML 2017; Burkholz & Dubatovka,
    Initialization of ReLUs for Dynamical Isometry, NeurIPS 2019.

    Args:
        gain: the factor of Q.
        mirror: ``both``, ``outputs`` (first layer) or ``inputs`` (last layer).
        taps: of a convolution: ``middle``, which any depth carries on unchanged, or ``all``, with
            Q orthogonal over inputs × taps: for a first layer, whose few channels would give
            copies of one pixel, and for strides, which would skip the pixels between.
    """

    gain: float = 1.0
    mirror: Literal["both", "outputs", "inputs"] = "both"
    taps: Literal["middle", "all"] = "middle"

    names: ClassVar[Names] = {
        "mirrored": {},
        "mirrored_first": {"mirror": "outputs"},
        "mirrored_last": {"mirror": "inputs"},
    }
    numbered: ClassVar[Numbered] = {"mirrored": lambda gain: {"gain": gain}}

    def __post_init__(self) -> None:
        require_number(self, "gain", least=0)
        require_choice(self, "mirror", ("both", "outputs", "inputs"))
        require_choice(self, "taps", ("middle", "all"))

    @property
    def on_middle_tap(self) -> bool:
        """Unless Q lies over all taps."""
        return self.taps == "middle"

    def _half(self, form: Form) -> tuple[int, int]:
        """Rows and columns of Q."""
        require(
            form.groups == 1,
            f"{self!r}: opposite channels would fall into different groups of the convolution. "
            "Use Kaiming or Orthogonal for grouped convolutions.",
        )
        require(
            self.taps == "middle" or not form.transposed,
            f"{self!r}: the taps of a transposed convolution are outputs. Use taps='middle'.",
        )
        rows, columns = form.outputs, form.inputs
        for side, size in (("outputs", rows), ("inputs", columns)):
            require(
                self.mirror not in ("both", side) or size % 2 == 0,
                f"{self!r}: {size} {side} cannot be paired. Use an even number, or mirror only "
                f"the other side with mirror={'inputs' if side == 'outputs' else 'outputs'!r}.",
            )
        return (
            rows // 2 if self.mirror != "inputs" else rows,
            columns // 2 if self.mirror != "outputs" else columns,
        )

    def matrix_moments(self, form: Form) -> Moments:
        """Mean 0; ‖W‖² is gain² times the lesser side of Q for each copy of Q."""
        rows, columns = self._half(form)
        copies = form.outputs * form.inputs // (rows * columns)
        width = columns * (prod(form.taps) if self.taps == "all" else 1)
        std = self.gain * math.sqrt(copies * min(rows, width) / form.elements)
        return Moments(0.0, std, -self.gain, self.gain)

    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """gain·Q and its mirror images, on the middle tap."""
        rows, columns = self._half(form)
        width = columns * (prod(form.taps) if self.taps == "all" else 1)
        w = haar(address, first, count, rows, width, dtype).mul_(self.gain)
        if self.taps == "all":
            w = w.reshape(count, rows, columns, *form.taps)
        if self.mirror != "outputs":
            w = torch.cat([w, -w], dim=2)
        if self.mirror != "inputs":
            w = torch.cat([w, -w], dim=1)
        return w if self.taps == "all" else form.on_centre(w)
