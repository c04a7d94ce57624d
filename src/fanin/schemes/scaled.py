"""A scheme times measured numbers: what a data-driven recipe leaves behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Self

import torch

from fanin.axes import Axes
from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region
from fanin.schemes.blockwise import Blockwise
from fanin.schemes.checks import check_target, require
from fanin.schemes.scheme import Moments, Scheme, combine


@dataclass(frozen=True)
class Scaled(Scheme):
    """The numbers of another scheme, times a factor: one for all, per block or per output unit.

    Of several factors there is one for each block that ``axes.block_sizes`` names, or one for each
    index along ``axes.outputs``.  ``Scaled(Ones(), (b1, b2, …))`` is a vector of given numbers.
    Half-precision tensors are drawn and multiplied in float32 and rounded once.

    Use: the result of a data-driven recipe (LSUV, GradInit, MetaInit, weight normalisation), so
    that a plan holds the measured numbers and is applied again without data.

    Args:
        of: what is drawn first.
        factor: what it is multiplied by.
    """

    of: Scheme
    factor: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        require(isinstance(self.of, Scheme), f"Scaled: {self.of!r} is no scheme.")
        if isinstance(self.factor, list):
            object.__setattr__(self, "factor", tuple(self.factor))
        values = self.factor if isinstance(self.factor, tuple) else (self.factor,)
        fine = bool(values) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) for v in values
        )
        require(fine, f"{self!r}: factor must be a finite number, or a tuple of them.")

    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Moments of the scheme's elements, each times its factor."""
        whole = self.of.expected(shape, axes)
        if prod(shape) == 0:
            return whole
        if not isinstance(self.factor, tuple):
            return _times(whole, [self.factor])
        units = self._per_unit(shape, axes)
        if not axes.block_sizes:
            return _times(whole, units)
        parts, start = [], 0
        # The pieces of one packed matrix may each have a std of their own.
        pieces = self.of.schemes if isinstance(self.of, Blockwise) else None
        for index, block in enumerate(axes.blocks(shape)):
            size = block.shape[axes.outputs[0]]
            scheme = pieces[index] if pieces else self.of
            moments = scheme.expected(block.shape, block.axes)
            parts.append((prod(block.shape), _times(moments, units[start : start + size])))
            start += size
        return combine(parts)

    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Draw the scheme's numbers and multiply; see ``Scheme.fill``."""
        region = check_target(self, target, axes, address, region)
        self.expected(region.shape, axes)
        if region.count() == 0:
            return
        half = target.dtype in (torch.float16, torch.bfloat16)
        drawn = torch.empty_like(target, dtype=torch.float32) if half else target
        self.of.fill(drawn, axes, address, region)
        with torch.no_grad():
            drawn.mul_(self.factors_of(drawn, axes, region))
            if half:
                target.copy_(drawn)

    def factors_of(
        self, like: torch.Tensor, axes: Axes, region: Region | None = None
    ) -> torch.Tensor:
        """The factors as they broadcast over a tensor, or over the region of it that it holds."""
        region = region or Region.whole(like.shape)
        if not isinstance(self.factor, tuple):
            return torch.tensor(self.factor, dtype=like.dtype, device=like.device)
        axis = axes.outputs[0]
        units = self._per_unit(region.shape, axes)
        first, count, step = region.start[axis], region.size[axis], region.step[axis]
        chosen = units[first : first + (count - 1) * step + 1 : step]
        values = torch.tensor(chosen, dtype=like.dtype, device=like.device)
        return values.view([-1 if a == axis else 1 for a in range(like.dim())])

    def _per_unit(self, shape: Sequence[int], axes: Axes) -> list[float]:
        """The factor of every index along the output axis."""
        assert isinstance(self.factor, tuple)
        given = self.factor
        require(
            len(axes.outputs) == 1,
            f"Scaled by {len(given)} factors: a tensor of shape {tuple(shape)} with {axes!r} has "
            "no single axis of outputs. Give one factor.",
        )
        size = shape[axes.outputs[0]]
        if len(given) == size:
            return list(given)
        if len(given) == len(axes.block_sizes):
            return [f for f, n in zip(given, axes.block_sizes, strict=True) for _ in range(n)]
        blocks = f" or {len(axes.block_sizes)}, one per block" if axes.block_sizes else ""
        raise SchemeError(
            f"Scaled by {len(given)} factors: a tensor of shape {tuple(shape)} needs 1, or {size}, "
            f"one per output{blocks}."
        )

    def to_json(self) -> dict[str, Any]:
        """``{"scheme": "Scaled", "of": {...}, "factor": ...}``."""
        factor = list(self.factor) if isinstance(self.factor, tuple) else self.factor
        return {"scheme": "Scaled", "of": self.of.to_json(), "factor": factor}

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``; a name of a scheme is understood too."""
        from fanin.schemes.table import scheme  # the table is made of these classes

        if not {"of"} <= set(values) <= {"of", "factor"}:
            raise SchemeError(f"Scaled takes 'of' and 'factor', not {sorted(values)}.")
        factor = values.get("factor", 1.0)
        return cls(scheme(values["of"]), tuple(factor) if isinstance(factor, list) else factor)


def _times(moments: Moments, factors: Sequence[float]) -> Moments:
    """Moments of elements of which equal shares are multiplied by each factor."""
    mean = moments.mean * sum(factors) / len(factors)
    second = (moments.std**2 + moments.mean**2) * sum(f * f for f in factors) / len(factors)
    ends = [
        None if end is None else end * f
        for end in (moments.low, moments.high)
        for f in (min(factors), max(factors))
    ]
    known = [end for end in ends if end is not None]
    bounded = len(known) == len(ends)
    std = (
        moments.std * abs(factors[0]) if len(set(factors)) == 1 else max(second - mean**2, 0) ** 0.5
    )
    return Moments(mean, std, min(known) if bounded else None, max(known) if bounded else None)
