"""Schemes that build a whole matrix at once: orthogonal, mirrored, identity, sparse and so on."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import torch

from fanin.axes import Axes
from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region
from fanin.schemes.checks import check_target
from fanin.schemes.scheme import Moments, Scheme, combine, overlap


@dataclass(frozen=True)
class Form:
    """The form of one independent matrix: ``outputs`` by ``inputs`` by ``taps``.

    ``groups`` equal ones stand side by side in a grouped convolution; ``transposed`` marks a
    transposed convolution, of which each input spreads to ``outputs × taps`` values.
    """

    outputs: int
    inputs: int
    taps: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False

    @classmethod
    def of(cls, shape: Sequence[int], axes: Axes) -> "Form":
        """The form of the matrices in one block of this shape."""
        outputs = prod(shape[a] for a in axes.outputs)
        inputs = prod(shape[a] for a in axes.inputs)
        taps = tuple(shape[a] for a in axes.receptive)
        if axes.transposed:
            return cls(outputs, inputs // axes.groups, taps, axes.groups, True)
        return cls(outputs // axes.groups, inputs, taps, axes.groups, False)

    @property
    def elements(self) -> int:
        """How many elements one matrix has."""
        return self.outputs * self.inputs * prod(self.taps)

    @property
    def centre(self) -> tuple[int, ...]:
        """Index of the middle tap along each receptive axis, as ``torch.nn.init.dirac_`` has it."""
        return tuple(n // 2 for n in self.taps)

    def on_centre(self, matrices: torch.Tensor) -> torch.Tensor:
        """``(count, outputs, inputs)`` on the middle tap, zeros on all others."""
        if not self.taps:
            return matrices
        whole = matrices.new_zeros(*matrices.shape, *self.taps)
        middle: tuple[Any, ...] = (..., *self.centre)
        whole[middle] = matrices
        return whole


class MatrixScheme(Scheme):
    """Built as a whole, per independent matrix, from addressed numbers.

    Stacked experts (batch axes), packed pieces (block_sizes) and the groups of a convolution are
    independent matrices: each is built on its own, from numbers of its own.
    """

    @property
    def on_middle_tap(self) -> bool:
        """Whether all taps of a convolution but the middle one are 0."""
        return False

    @abstractmethod
    def build_matrices(
        self, form: Form, address: Address, first: int, count: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """Matrices number ``first`` to ``first + count - 1`` of a block.

        Args:
            form: the form of each.
            address: of the block.
            first: number of the first one: its place among the block's batch entries and groups.
            count: how many.
            dtype: float32 or float64.

        Returns:
            A CPU tensor of shape ``(count, outputs, inputs, *taps)``.
        """

    @abstractmethod
    def matrix_moments(self, form: Form) -> Moments:
        """Moments of one such matrix; raises SchemeError where it cannot be built."""

    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Moments over all matrices of the tensor."""
        axes.validate(shape)
        if prod(shape) == 0:
            return Moments(0.0, 0.0)
        if not axes.inputs:
            raise SchemeError(
                f"{self!r}: a tensor of shape {tuple(shape)} with {axes!r} is no matrix. Use "
                "Zeros, Ones, Constant, Normal or Uniform, or name the input axis."
            )
        return combine(
            [
                (prod(block.shape), self.matrix_moments(Form.of(block.shape, block.axes)))
                for block in axes.blocks(shape)
            ]
        )

    def build(
        self,
        shape: Sequence[int],
        axes: Axes,
        address: Address,
        *,
        entry: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """One entry of a block (``shape`` and ``axes`` without batch axes) on the CPU.

        Args:
            shape: of the entry.
            axes: its roles, without batch axes and block_sizes.
            address: of the block.
            entry: which of the block's batch entries.
            dtype: float32 or float64.
        """
        form = Form.of(shape, axes)
        matrices = self.build_matrices(form, address, entry * form.groups, form.groups, dtype)
        # Groups stand side by side along the outputs, in a transposed convolution the inputs.
        if axes.transposed:
            matrices = matrices.movedim(0, 1)
        order = axes.outputs + axes.inputs + axes.receptive
        ordered = matrices.reshape([shape[a] for a in order])
        return ordered.permute([order.index(a) for a in range(len(shape))])

    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Build the matrices that the region touches and copy its part; see ``Scheme.fill``."""
        region = check_target(self, target, axes, address, region)
        self.expected(region.shape, axes)
        if region.count() == 0:
            return
        with torch.no_grad():
            for index, block in enumerate(axes.blocks(region.shape)):
                where = address.child(f"block {index}") if axes.block_sizes else address
                part, offsets = target, region.start
                if axes.block_sizes:
                    axis = axes.outputs[0]
                    first, count, offset = overlap(region, axis, block.start, block.shape[axis])
                    if not count:
                        continue
                    part = target.narrow(axis, first, count)
                    offsets = (*offsets[:axis], offset, *offsets[axis + 1 :])
                self._fill_block(part, offsets, region.step, block.shape, block.axes, where)

    def _fill_block(
        self,
        target: torch.Tensor,
        start: Sequence[int],
        step: Sequence[int],
        shape: Sequence[int],
        axes: Axes,
        address: Address,
    ) -> None:
        """Fill the part of one block that begins at ``start`` and goes on by ``step``."""
        dtype = torch.float64 if target.dtype == torch.float64 else torch.float32
        inner = [a for a in range(len(shape)) if a not in axes.batch]
        inner_axes = replace(
            axes,
            outputs=tuple(inner.index(a) for a in axes.outputs),
            inputs=tuple(inner.index(a) for a in axes.inputs),
            receptive=tuple(inner.index(a) for a in axes.receptive),
            batch=(),
        )
        inner_shape = [shape[a] for a in inner]
        picks = tuple(
            slice(start[a], start[a] + (target.shape[a] - 1) * step[a] + 1, step[a]) for a in inner
        )
        for position in product(*(range(target.shape[a]) for a in axes.batch)):
            entry = 0
            for a, i in zip(axes.batch, position, strict=True):
                entry = entry * shape[a] + start[a] + i * step[a]
            view = target
            # From the last axis backwards, so that the numbers of those before it stay true.
            for a, i in sorted(zip(axes.batch, position, strict=True), reverse=True):
                view = view.select(a, i)
            whole = self.build(inner_shape, inner_axes, address, entry=entry, dtype=dtype)
            view.copy_(whole[picks])
