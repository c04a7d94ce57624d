"""The kernel of a recorded convolution: its weights, taps and settings.

A kernel whose weights all stand on its middle tap, as ``DeltaOrthogonal`` draws it, is a smaller
kernel behind less padding: it never reads a border, where the whole one would read zeros.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.profile import Profile
from fanin.propagation.state import State, independent


@dataclass(frozen=True)
class Kernel:
    """What a convolution multiplies by, and where it reads.

    Args:
        weight: (outputs, inputs, *taps), or inputs first where it is transposed.
        stride: one number an axis, as the others.
        padding: zeros before the first place; negative where taps before the first were dropped.
        dilation: of the taps.
    """

    weight: State
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def taps(self) -> tuple[int, ...]:
        """How many along each axis."""
        return self.weight.shape[2:]

    def along_axes(self) -> Iterator[tuple[int, int, int, int]]:
        """Taps, stride, padding and dilation of each axis."""
        return zip(self.taps, self.stride, self.padding, self.dilation, strict=True)


def whole_kernel(call: Call) -> Kernel:
    """The kernel as recorded."""
    weight = call.state(1)
    space = len(weight.shape) - 2
    found = (tuple(int(n) for n in call.raw(k)) for k in (3, 4, 5))
    return Kernel(weight, *(v * space if len(v) == 1 else v for v in found))


def kernel_of(call: Call) -> Kernel:
    """The taps that hold weights: the smallest box of them."""
    whole = whole_kernel(call)
    found = _box(whole.weight.profile, whole.taps)
    if found is None:
        return whole
    box, share = found
    weight = whole.weight
    shape = (*weight.shape[:2], *(last - first for first, last in box))
    mean, power = weight.mean * share, weight.second_moment * share
    inner = independent(shape, mean, max(power - mean * mean, 0.0) ** 0.5)
    padding = tuple(
        p - first * step
        for p, (first, _), step in zip(whole.padding, box, whole.dilation, strict=True)
    )
    inner = replace(inner, mirrored=weight.mirrored, sampled=weight.sampled)
    return replace(whole, weight=inner, padding=padding)


def _box(powers: Profile, taps: tuple[int, ...]) -> tuple[list[tuple[int, int]], float] | None:
    """First tap and the one behind the last along each axis, and how much stronger they are.

    None where no tap outside is empty.
    """
    if powers is None or not taps:
        return None
    filled = np.broadcast_to(powers.max(axis=(0, 1)) > 0, taps)
    if not filled.any():
        return None
    box = []
    for axis in range(len(taps)):
        there = np.flatnonzero(filled.any(axis=tuple(k for k in range(len(taps)) if k != axis)))
        box.append((int(there[0]), int(there[-1]) + 1))
    inside = np.prod([last - first for first, last in box])
    return None if inside == filled.size else (box, filled.size / float(inside))
