"""What a scheme is: how one tensor is drawn, as a frozen, comparable, printable value.

A scheme is a frozen dataclass that derives from ``ElementwiseScheme`` (every element drawn on
its own from one distribution, so that any slice can be drawn alone) or ``MatrixScheme`` (the
whole matrix is built at once from addressed numbers).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import torch

from fanin.axes import Axes
from fanin.randomness.address import Address, Region
from fanin.randomness.distributions import Distribution


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
    """

    names: ClassVar[dict[str, dict[str, Any]]] = {}

    @abstractmethod
    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """Mean, std and bounds of a tensor of this shape and these axes.

        Raises:
            SchemeError: the scheme cannot draw such a tensor.
        """

    @abstractmethod
    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Write the tensor, or the region of it that ``target`` holds, in place.

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
    def from_fields(cls, values: dict[str, Any]) -> Self:
        """Build from the fields of ``to_json``; lists become tuples."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


class ElementwiseScheme(Scheme):
    """Every element drawn on its own: resolves to one distribution per independent block."""

    @abstractmethod
    def distribution(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """The distribution of every element of one block (``axes`` has no block_sizes)."""


class MatrixScheme(Scheme):
    """Built as a whole, per independent block, from addressed numbers."""

    @abstractmethod
    def build(self, shape: Sequence[int], axes: Axes, address: Address) -> torch.Tensor:
        """One block (no batch axes, no block_sizes) as float32 or float64 on the CPU."""
