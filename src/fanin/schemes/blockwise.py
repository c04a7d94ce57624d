"""One scheme per block: the gates of an LSTM's bias, the pieces of a packed matrix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from fanin.axes import Axes, Block
from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region
from fanin.randomness.distributions import UniformDistribution
from fanin.randomness.fill import draw
from fanin.schemes.checks import check_target, require, require_number
from fanin.schemes.scheme import Moments, Numbered, Scheme, combine, overlap


@dataclass(frozen=True)
class Blockwise(Scheme):
    """A scheme for each of the blocks that ``axes.block_sizes`` names, in order.

    Use: LSTM biases, where the forget gate alone starts at 1.

    Args:
        schemes: one scheme per block.
    """

    schemes: tuple[Scheme, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "schemes", tuple(self.schemes))
        require(
            bool(self.schemes) and all(isinstance(s, Scheme) for s in self.schemes),
            f"{self!r}: give a tuple of at least one scheme.",
        )

    def _blocks(self, shape: Sequence[int], axes: Axes) -> list[Block]:
        blocks = axes.blocks(shape)
        if len(blocks) != len(self.schemes):
            raise SchemeError(
                f"{self!r} has {len(self.schemes)} schemes for {len(blocks)} blocks of a tensor "
                f"of shape {tuple(shape)}. Give one scheme per size in axes.block_sizes."
            )
        return blocks

    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Moments over all blocks."""
        pieces = zip(self._blocks(shape, axes), self.schemes, strict=True)
        return combine(
            [(math.prod(b.shape), scheme.expected(b.shape, b.axes)) for b, scheme in pieces]
        )

    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Draw every block from an address of its own; see ``Scheme.fill``."""
        region = check_target(self, target, axes, address, region)
        # An impossible block must not leave the blocks before it drawn.
        self.expected(region.shape, axes)
        axis = axes.outputs[0] if axes.outputs else 0
        for index, (block, scheme) in enumerate(
            zip(self._blocks(region.shape, axes), self.schemes, strict=True)
        ):
            size = block.shape[axis]
            first, count, offset = overlap(region, axis, block.start, size)
            if not count:
                continue
            part = Region(
                block.shape,
                (*region.start[:axis], offset, *region.start[axis + 1 :]),
                (*region.size[:axis], count, *region.size[axis + 1 :]),
                region.step,
            )
            where = address.child(f"block {index}")
            scheme.fill(target.narrow(axis, first, count), block.axes, where, part)

    def to_json(self) -> dict[str, Any]:
        """``{"scheme": "Blockwise", "schemes": [...]}``."""
        return {"scheme": "Blockwise", "schemes": [scheme.to_json() for scheme in self.schemes]}

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``; names of schemes are understood too."""
        from fanin.schemes.table import scheme  # the table is made of these classes

        if set(values) != {"schemes"}:
            raise SchemeError(f"Blockwise takes 'schemes' alone, not {sorted(values)}.")
        return cls(tuple(scheme(value) for value in values["schemes"]))


@dataclass(frozen=True)
class ChronoBias(Scheme):
    """Forget gates b_f = log U(1, T − 1), input gates b_i = −b_f, the others 0.

    An LSTM whose gates start so remembers for between 1 and T steps.  The tensor is one bias
    vector of four equal blocks in torch's order i, f, g, o; set one of torch's two biases only.

    Use: recurrent nets over sequences of about T steps.
    Paper: Tallec & Ollivier, Can recurrent neural networks warp time?, ICLR 2018.

    Args:
        longest: T, the longest time span that matters, above 2.
    """

    longest: float

    numbered: ClassVar[Numbered] = {"chrono_bias": lambda longest: {"longest": longest}}

    def __post_init__(self) -> None:
        require_number(self, "longest")
        require(self.longest > 2, f"{self!r}: longest must be above 2 steps.")

    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Mean 0, and std √(E[log² u]/2) with u ~ U(1, T − 1)."""
        axes.validate(shape)
        require(
            len(shape) == 1 and shape[0] % 4 == 0,
            f"{self!r} draws one bias vector of four gates, not a tensor of shape {tuple(shape)}.",
        )
        if shape[0] == 0:
            return Moments(0.0, 0.0)
        top = self.longest - 1
        log = math.log(top)
        # ∫ ln²u du from 1 to b is b ln²b − 2b ln b + 2b − 2.
        square = (top * log**2 - 2 * top * log + 2 * top - 2) / (top - 1)
        return Moments(0.0, math.sqrt(square / 2), -log, log)

    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Draw the whole vector, which is small, and copy what was asked for."""
        region = check_target(self, target, axes, address, region)
        self.expected(region.shape, axes)
        if region.count() == 0:
            return
        width = region.shape[0] // 4
        spans = draw(
            UniformDistribution(1.0, float(self.longest) - 1.0),
            address.child("time spans"),
            (width,),
            dtype=torch.float64,
        )
        forget, rest = spans.log(), torch.zeros(2 * width, dtype=torch.float64)
        whole = torch.cat([-forget, forget, rest])
        first, step, size = region.start[0], region.step[0], region.size[0]
        with torch.no_grad():
            target.copy_(whole[first : first + (size - 1) * step + 1 : step])
