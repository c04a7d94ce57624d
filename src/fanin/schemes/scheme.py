"""What a scheme is: how one tensor is drawn, as a frozen, comparable, printable value.

A scheme is a frozen dataclass that derives from ``ElementwiseScheme`` (every element drawn on
its own from one distribution, so that any slice can be drawn alone) or ``MatrixScheme`` (the
whole matrix is built at once from addressed numbers).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import Any, ClassVar, Self

import torch

from fanin.axes import Axes
from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region
from fanin.randomness.distributions import Distribution
from fanin.schemes.checks import check_target

Names = Mapping[str, Mapping[str, Any]]
Numbered = Mapping[str, Callable[[float], dict[str, Any]]]


@dataclass(frozen=True)
class Moments:
    """What a scheme promises of a tensor: mean, standard deviation and bounds of its elements.

    ``std`` is the root mean square deviation over all elements, structural zeros included.
    ``low`` and ``high`` are None where the scheme sets no bound.
    """

    mean: float
    std: float
    low: float | None = None
    high: float | None = None


class Scheme(ABC):
    """How one tensor is drawn.  Subclasses are frozen dataclasses, one family a file.

    ``names`` are the names under which ``fanin.SCHEMES`` lists ready-made values of the class:
    ``{"kaiming_normal": {"distribution": "normal"}}`` maps a name to constructor arguments.
    ``numbered`` are names that end in a number: ``{"normal": lambda x: {"std": x}}`` makes
    ``"normal_0.01"`` mean ``Normal(std=0.01)``.
    """

    names: ClassVar[Names] = {}
    numbered: ClassVar[Numbered] = {}

    @abstractmethod
    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Mean, std and bounds of a tensor of this shape and these axes.

        A tensor without elements has mean 0 and std 0.

        Raises:
            SchemeError: the scheme cannot draw such a tensor.
        """

    @abstractmethod
    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Write the tensor, or the region of it that ``target`` holds, in place.

        A tensor without elements is left as it is.

        Args:
            target: float16, bfloat16, float32 or float64, any device and layout, not on meta;
                its shape is ``region.size``.
            axes: roles of the *whole* tensor's axes.
            address: seed and parameter name.
            region: which part of the whole tensor ``target`` is; None for all of it.

        Raises:
            SchemeError: the scheme cannot draw this tensor; ``target`` is then untouched.
        """

    def to_json(self) -> dict[str, Any]:
        """``{"scheme": class name, field: value, …}``; ``scheme_from_json`` reads it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {"scheme": type(self).__name__, **json.loads(json.dumps(values))}

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Self:
        """Build from the fields of ``to_json``; lists become tuples."""
        try:
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        except TypeError as error:
            accepted = ", ".join(f.name for f in fields(cls)) or "none"  # type: ignore[arg-type]
            raise SchemeError(f"{cls.__name__}: {error}. Its arguments: {accepted}.") from error


def combine(parts: Sequence[tuple[int, Moments]]) -> Moments:
    """Moments of a tensor that consists of pieces: ``(number of elements, moments)`` each."""
    count = sum(n for n, _ in parts)
    if count == 0:
        return Moments(0.0, 0.0)
    if all(moments == parts[0][1] for _, moments in parts):
        return parts[0][1]
    mean = sum(n * m.mean for n, m in parts) / count
    variance = sum(n * (m.std**2 + (m.mean - mean) ** 2) for n, m in parts) / count
    lows = [m.low for _, m in parts]
    highs = [m.high for _, m in parts]
    return Moments(
        mean,
        variance**0.5,
        None if None in lows else min(low for low in lows if low is not None),
        None if None in highs else max(high for high in highs if high is not None),
    )


class ElementwiseScheme(Scheme):
    """Every element drawn on its own: resolves to one distribution per independent block."""

    @abstractmethod
    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The distribution of every element of one block (``axes`` has no block_sizes).

        Raises:
            SchemeError: the scheme cannot draw such a tensor.
        """

    def pieces(self, axes: Axes) -> Axes:
        """The axes whose blocks each have a distribution of their own."""
        return axes

    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Moments of the distribution, over all blocks."""
        from fanin.schemes.moments import moments_of

        axes.validate(shape)
        if prod(shape) == 0:
            return Moments(0.0, 0.0)
        return combine(
            [
                (prod(block.shape), moments_of(self.resolve(block.shape, block.axes)))
                for block in self.pieces(axes).blocks(shape)
            ]
        )

    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Draw every element from its own address; see ``Scheme.fill``."""
        from fanin import randomness

        for part, distribution, piece in self.parts(target, axes, address, region):
            randomness.fill(part, distribution, address, piece)

    def parts(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> list[tuple[torch.Tensor, Distribution, Region]]:
        """What ``fill`` writes: parts of the target, the distribution and the region of each.

        All distributions are resolved before the first write: an impossible block must not leave
        the blocks before it drawn.

        Raises:
            SchemeError: the scheme cannot draw this tensor.
        """
        region = check_target(self, target, axes, address, region)
        if prod(region.shape) == 0:
            return []
        blocks = self.pieces(axes).blocks(region.shape)
        distributions = [self.resolve(block.shape, block.axes) for block in blocks]
        if all(distribution == distributions[0] for distribution in distributions):
            return [(target, distributions[0], region)]
        axis = axes.outputs[0]
        found = []
        for block, distribution in zip(blocks, distributions, strict=True):
            first, count, _ = overlap(region, axis, block.start, block.shape[axis])
            if count:
                part = target.narrow(axis, first, count)
                found.append((part, distribution, region.narrow(axis, first, count)))
        return found


def overlap(region: Region, axis: int, start: int, size: int) -> tuple[int, int, int]:
    """Which of a region's indices along an axis fall into ``start … start + size`` of the whole.

    Returns:
        The first such index of the region, how many there are, and where the first one lies
        counted from ``start``.
    """
    first, step = region.start[axis], region.step[axis]
    begin = max(0, -((first - start) // step))
    end = min(region.size[axis], -((first - start - size) // step))
    return begin, max(0, end - begin), first + begin * step - start
