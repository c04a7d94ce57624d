"""The few array operations that the specification needs, over NumPy or torch alike.

The specification is written once.  Everything in it is one of: ``+ - *`` of float32 or float64,
``+ - *`` of int64 (wrapping), ``& | ^ << >>`` of int32 or int64, and the functions below.  All of
them have one right answer, so NumPy and torch agree to the last bit, on any device.
"""

from typing import Any, Protocol

import numpy as np
import torch
from typing_extensions import override

Array = Any
"""A ``numpy.ndarray`` or a ``torch.Tensor``; one program never mixes them."""


class Arrays(Protocol):
    """What the specification asks of an array library."""

    def range(self, start: int, count: int) -> Array:
        """The int64 numbers start … start + count - 1."""

    def cast(self, array: Array, dtype: str) -> Array:
        """Convert values; integers to floats round to nearest even."""

    def bits(self, array: Array, dtype: str) -> Array:
        """The same bytes under a dtype of the same width."""

    def sqrt(self, array: Array) -> Array:
        """The correctly rounded square root."""

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        """Elementwise choice."""

    def clamp(self, array: Array, low: float, high: float) -> Array:
        """Elementwise min(max(array, low), high)."""

    def stack(self, arrays: list[Array], axis: int) -> Array:
        """Join along a new axis."""


class NumpyArrays(Arrays):
    """The operations over ``numpy.ndarray``."""

    @override
    def range(self, start: int, count: int) -> Array:
        return np.arange(start, start + count, dtype=np.int64)

    @override
    def cast(self, array: Array, dtype: str) -> Array:
        return array.astype(dtype)

    @override
    def bits(self, array: Array, dtype: str) -> Array:
        return array.view(dtype)

    @override
    def sqrt(self, array: Array) -> Array:
        return np.sqrt(array)

    @override
    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        return np.where(condition, yes, no)

    @override
    def clamp(self, array: Array, low: float, high: float) -> Array:
        kind = array.dtype.type
        return np.minimum(np.maximum(array, kind(low)), kind(high))

    @override
    def stack(self, arrays: list[Array], axis: int) -> Array:
        return np.stack(arrays, axis)


class TorchArrays(Arrays):
    """The operations over ``torch.Tensor`` on one device."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    @override
    def range(self, start: int, count: int) -> Array:
        return torch.arange(start, start + count, dtype=torch.int64, device=self.device)

    @override
    def cast(self, array: Array, dtype: str) -> Array:
        return array.to(getattr(torch, dtype))

    @override
    def bits(self, array: Array, dtype: str) -> Array:
        return array.view(getattr(torch, dtype))

    @override
    def sqrt(self, array: Array) -> Array:
        # On the CPU torch hands long float32 arrays to MKL, whose root is off by one unit in the
        # last place in one case of seven; NumPy's is the processor's own.
        if array.device.type == "cpu":
            return torch.from_numpy(np.sqrt(array.numpy()))
        return torch.sqrt(array)

    @override
    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        return torch.where(condition, yes, no)

    @override
    def clamp(self, array: Array, low: float, high: float) -> Array:
        return array.clamp(low, high)

    @override
    def stack(self, arrays: list[Array], axis: int) -> Array:
        return torch.stack(arrays, axis)
