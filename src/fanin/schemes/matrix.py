"""Schemes that build a whole matrix at once: orthogonal, mirrored, identity, sparse and so on."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import torch

from fanin.axes import Axes
from fanin.randomness.address import Address, Region
from fanin.schemes.checks import check_target
from fanin.schemes.scheme import Moments, Scheme, combine, overlap


@dataclass(frozen=True)
class Form:
    """The form of one independent matrix: ``outputs`` by ``inputs`` by ``taps``.

    ``groups`` equal ones stand in a block; ``transposed`` marks a transposed convolution, whose
    inputs each spread to ``outputs × taps`` values.
    """

    outputs: int
    inputs: int
    taps: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False

    @property
    def elements(self) -> int:
        """How many elements the matrix has."""
        return self.outputs * self.inputs * prod(self.taps)

    @property
    def centre(self) -> tuple[int, ...]:
        """Index of the middle tap along each receptive axis, as ``torch.nn.init.dirac_`` has it."""
        return tuple(n // 2 for n in self.taps)


class MatrixScheme(Scheme):
    """Built as a whole, per independent matrix, from addressed numbers.

    Stacked experts (batch axes), packed pieces (block_sizes) and the groups of a convolution are
    independent matrices: each is built on its own, from an address of its own.
    """

    @abstractmethod
    def build_matrix(self, form: Form, address: Address) -> torch.Tensor:
        """One matrix, ``(outputs, inputs, *taps)``, as float32 or float64 on the CPU."""

    @abstractmethod
    def matrix_moments(self, form: Form) -> Moments:
        """Moments of one such matrix; raises SchemeError where it cannot be built."""

    def forms(self, block: tuple[int, ...], axes: Axes) -> Form:
        """The form of each of the equal matrices in one block of this shape."""
        outputs = prod(block[a] for a in axes.outputs)
        inputs = prod(block[a] for a in axes.inputs)
        taps = tuple(block[a] for a in axes.receptive)
        if axes.transposed:
            return Form(outputs, inputs // axes.groups, taps, axes.groups, True)
        return Form(outputs // axes.groups, inputs, taps, axes.groups, False)

    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Moments over all matrices of the tensor."""
        axes.validate(shape)
        if prod(shape) == 0:
            return Moments(0.0, 0.0)
        return combine(
            [
                (prod(block.shape), self.matrix_moments(self.forms(block.shape, block.axes)))
                for block in axes.blocks(shape)
            ]
        )

    def build(self, shape: Sequence[int], axes: Axes, address: Address) -> torch.Tensor:
        """One block (no batch axes, no block_sizes) as float32 or float64 on the CPU."""
        form = self.forms(tuple(shape), axes)
        groups = [
            self.build_matrix(form, address.child(f"group {g}") if form.groups > 1 else address)
            for g in range(form.groups)
        ]
        matrix = torch.cat(groups, dim=1 if axes.transposed else 0)
        order = axes.outputs + axes.inputs + axes.receptive
        ordered = matrix.reshape([shape[a] for a in order])
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
                self._fill_block(target, block.start, block.shape, axes, where, region)

    def _fill_block(
        self,
        target: torch.Tensor,
        start: int,
        shape: tuple[int, ...],
        axes: Axes,
        address: Address,
        region: Region,
    ) -> None:
        kept = [slice(first, None, step) for first, step in zip(region.start, region.step)]
        if axes.block_sizes:
            axis = axes.outputs[0]
            first, count, offset = overlap(region, axis, start, shape[axis])
            if not count:
                return
            target = target.narrow(axis, first, count)
            kept[axis] = slice(offset, None, region.step[axis])
        picks = [
            slice(k.start, k.start + (n - 1) * k.step + 1, k.step)
            for k, n in zip(kept, target.shape)
        ]
        inner = [a for a in range(len(shape)) if a not in axes.batch]
        renumber = {a: i for i, a in enumerate(inner)}
        inner_axes = Axes(
            outputs=[renumber[a] for a in axes.outputs],
            inputs=[renumber[a] for a in axes.inputs],
            receptive=[renumber[a] for a in axes.receptive],
            groups=axes.groups,
            stride=axes.stride,
            transposed=axes.transposed,
        )
        inner_shape = [shape[a] for a in inner]
        inner_picks = tuple(picks[a] for a in inner)
        for position in product(*(range(target.shape[a]) for a in axes.batch)):
            whole = [picks[a].start + i * picks[a].step for a, i in zip(axes.batch, position)]
            where = address.child(f"batch {whole}") if axes.batch else address
            view = target
            for a, i in sorted(zip(axes.batch, position), reverse=True):
                view = view.select(a, i)
            view.copy_(self.build(inner_shape, inner_axes, where)[inner_picks])
