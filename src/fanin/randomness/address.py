"""Where a number lives: seed, parameter name, and a region of the whole tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import prod

from fanin.errors import SchemeError

STREAM_VERSION = 1
"""Part of every key.  A change of bits is a new stream version, never a silent change."""

_PREFIXED = blake2b(b"fanin" + STREAM_VERSION.to_bytes(4, "little"), digest_size=8)


def key_of(seed: bytes | memoryview, name: bytes) -> int:
    """The 64-bit Philox key of a seed, 8 bytes with the lowest first, and a name in UTF-8."""
    state = _PREFIXED.copy()
    state.update(seed)
    state.update(name)
    return int.from_bytes(state.digest(), "little")


@dataclass(frozen=True)
class Address:
    """The seed and the parameter name of a tensor; with an element's index, its number.

    Args:
        seed: any integer from 0 to 2**64 - 1.
        name: the parameter's name in the model that owns it, such as ``"h.3.q.weight"``.
    """

    seed: int
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise SchemeError(
                f"seed {self.seed!r} is not an integer in 0 … 2**64 - 1. Give another seed."
            )

    def key(self) -> int:
        """The 64-bit Philox key: BLAKE2b over the stream version, the seed and the name."""
        return key_of(self.seed.to_bytes(8, "little"), self.name.encode())

    def child(self, part: str) -> "Address":
        """An address of its own for a further set of numbers that the same tensor needs."""
        # A unit separator cannot occur in a module path, so no parameter has this name.
        return Address(self.seed, f"{self.name}\x1f{part}")


@dataclass(frozen=True)
class Region:
    """A strided block of a whole tensor: what one shard or one slice holds.

    Args:
        shape: shape of the whole tensor.
        start: first index along each axis.
        size: number of elements along each axis.
        step: distance between them along each axis; empty for 1 everywhere.
    """

    shape: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]
    step: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        steps = self.step or (1,) * len(self.shape)
        object.__setattr__(self, "step", steps)
        ranks = {len(self.shape), len(self.start), len(self.size), len(steps)}
        fits = len(ranks) == 1 and all(
            first >= 0 and step >= 1 and count >= 0 and first + step * max(count - 1, 0) < max(n, 1)
            for n, first, count, step in zip(self.shape, self.start, self.size, steps, strict=True)
            if count
        )
        if not fits:
            raise SchemeError(f"{self!r} does not lie in the whole tensor. Mend start, size, step.")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> "Region":
        """The region that is all of a tensor."""
        return cls(tuple(shape), (0,) * len(shape), tuple(shape))

    def is_whole(self) -> bool:
        """Whether every element of the tensor is in the region."""
        return self.size == self.shape

    def narrow(self, axis: int, start: int, size: int) -> "Region":
        """The part whose index along ``axis`` of this *region* is start … start + size - 1."""
        first = self.start[axis] + start * self.step[axis]
        return Region(
            self.shape,
            (*self.start[:axis], first, *self.start[axis + 1 :]),
            (*self.size[:axis], size, *self.size[axis + 1 :]),
            self.step,
        )

    def first(self) -> int:
        """Row-major number, in the whole tensor, of the region's first element."""
        return sum(i * stride for i, stride in zip(self.start, self._strides(), strict=True))

    def element_steps(self) -> tuple[int, ...]:
        """How far apart neighbours along each axis are in the whole tensor's numbering."""
        return tuple(a * b for a, b in zip(self.step, self._strides(), strict=True))

    def is_run(self) -> bool:
        """Whether the elements are consecutive in the whole tensor's row-major numbering."""
        expected = 1
        for count, step in zip(reversed(self.size), reversed(self.element_steps()), strict=True):
            if count > 1 and step != expected:
                return False
            expected *= count
        return True

    def _strides(self) -> tuple[int, ...]:
        strides = [1] * len(self.shape)
        for axis in range(len(self.shape) - 1, 0, -1):
            strides[axis - 1] = strides[axis] * self.shape[axis]
        return tuple(strides)

    def count(self) -> int:
        """How many elements the region holds."""
        return prod(self.size)
