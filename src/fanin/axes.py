"""Which axis of a weight is what; fan_in and fan_out follow from it.

The shape of a tensor does not say how it is used: ``(in, out)`` matrices, grouped and
transposed convolutions, packed q/k/v and stacked experts all give a wrong fan when the fan is
guessed from the shape.  ``Axes`` states the roles once; everything else derives from them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from operator import index
from typing import Any

from fanin.errors import SchemeError


def _as_tuple(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else value
    try:
        return tuple(index(v) for v in values)
    except TypeError as error:
        raise SchemeError(
            f"Axes: {name}={value!r} is no whole number and no sequence of them. Give an axis "
            "such as 0, or several such as (2, 3)."
        ) from error


@dataclass(frozen=True)
class Axes:
    """The roles of a weight's axes.

    Args:
        outputs: axis or axes that index output units. For a grouped convolution the axis
            holds the outputs of all groups.
        inputs: axis or axes that are summed over. Empty for tensors that sum nothing
            (a bias, a norm scale, an embedding table).
        receptive: axes of the receptive field of a convolution; they are summed over too.
        batch: axes that index independent weights of one shape: stacked experts, heads that
            are stored apart. They enter no fan.
        block_sizes: sizes of the independent pieces stacked along ``outputs[0]``: packed q/k/v
            ``(d, d, d)``, LSTM gates ``(h, h, h, h)``, fused gate and up. Empty: one piece.
        groups: groups of a convolution.
        stride: stride along each receptive axis. Empty: 1 everywhere.
        transposed: a transposed convolution: the weight is ``(C_in, C_out / groups, *kernel)``,
            so that groups divide the input axis and the stride divides fan_in.

    Examples:
        >>> Axes(outputs=0, inputs=1, receptive=(2, 3), groups=64).fans((64, 1, 3, 3))
        Fans(fan_in=9.0, fan_out=9.0)
        >>> Axes(outputs=1, inputs=0, receptive=(2, 3), stride=(2, 2), transposed=True).fans(
        ...     (64, 32, 4, 4)
        ... )
        Fans(fan_in=256.0, fan_out=512.0)
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    receptive: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    block_sizes: tuple[int, ...] = ()
    groups: int = 1
    stride: tuple[int, ...] = ()
    transposed: bool = False

    def __init__(
        self,
        outputs: int | Sequence[int] = 0,
        inputs: int | Sequence[int] = (),
        receptive: int | Sequence[int] = (),
        batch: int | Sequence[int] = (),
        block_sizes: int | Sequence[int] = (),
        groups: int = 1,
        stride: int | Sequence[int] = (),
        transposed: bool = False,
    ) -> None:
        # Written by hand so that one axis may be given as a plain int: Axes(outputs=0, inputs=1).
        named = {
            "outputs": outputs,
            "inputs": inputs,
            "receptive": receptive,
            "batch": batch,
            "block_sizes": block_sizes,
            "stride": stride,
        }
        for name, value in named.items():
            object.__setattr__(self, name, _as_tuple(name, value))
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "transposed", transposed)
        roles = self.outputs + self.inputs + self.receptive + self.batch
        if len(set(roles)) != len(roles) or any(axis < 0 for axis in roles):
            raise SchemeError(
                f"{self!r}: every axis has one role and is counted from 0; give each axis once."
            )
        if groups < 1 or any(s < 1 for s in self.stride) or any(b < 1 for b in self.block_sizes):
            raise SchemeError(f"{self!r}: groups, stride and block_sizes must be at least 1.")
        if self.stride and len(self.stride) != len(self.receptive):
            raise SchemeError(f"{self!r}: give one stride for each receptive axis, or none.")
        if self.block_sizes and not self.outputs:
            raise SchemeError(f"{self!r}: block_sizes divide outputs[0], but there are no outputs.")

    def validate(self, shape: Sequence[int]) -> None:
        """Raise SchemeError unless these roles fit a tensor of this shape."""
        roles = self.outputs + self.inputs + self.receptive + self.batch
        if sorted(roles) != list(range(len(shape))):
            raise SchemeError(
                f"{self!r} does not name each of the {len(shape)} axes of a tensor of shape "
                f"{tuple(shape)} once. Give every axis a role."
            )
        if self.block_sizes and sum(self.block_sizes) != shape[self.outputs[0]]:
            raise SchemeError(
                f"{self!r}: block_sizes add up to {sum(self.block_sizes)}, but axis "
                f"{self.outputs[0]} of shape {tuple(shape)} has {shape[self.outputs[0]]}."
            )
        grouped = prod(shape[a] for a in (self.inputs if self.transposed else self.outputs))
        if grouped % self.groups:
            raise SchemeError(
                f"{self!r}: {self.groups} groups do not divide {grouped} channels of shape "
                f"{tuple(shape)}."
            )

    def fans(self, shape: Sequence[int]) -> "Fans":
        """fan_in: how many inputs one output sums. fan_out: how many outputs one input reaches.

        With a stride s a forward convolution spreads one input to k/s outputs along an axis, and
        a transposed one sums k/s inputs: on average over positions, borders aside.  With blocks
        fan_out is that of the whole; see ``blocks`` for one piece.
        """
        self.validate(shape)
        n_inputs = prod(shape[a] for a in self.inputs)
        n_outputs = prod(shape[a] for a in self.outputs)
        taps = prod(shape[a] for a in self.receptive)
        steps = prod(self.stride)
        if self.transposed:
            return Fans(n_inputs // self.groups * taps / steps, float(n_outputs * taps))
        return Fans(float(n_inputs * taps), n_outputs // self.groups * taps / steps)

    def blocks(self, shape: Sequence[int]) -> list["Block"]:
        """The independent pieces along ``outputs[0]``, each with its own shape and fans."""
        self.validate(shape)
        if not self.block_sizes:
            return [Block(0, tuple(shape), self)]
        whole = Axes(**{**asdict(self), "block_sizes": ()})
        pieces, start, axis = [], 0, self.outputs[0]
        for size in self.block_sizes:
            piece = tuple(size if a == axis else n for a, n in enumerate(shape))
            pieces.append(Block(start, piece, whole))
            start += size
        return pieces

    def to_json(self) -> dict[str, Any]:
        """A dict of what differs from the default, lists for tuples; ``from_json`` reads it."""
        plain = Axes()
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value != getattr(plain, key) or key == "outputs"
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Axes":
        """Inverse of ``to_json``."""
        try:
            return cls(**data)
        except TypeError as error:
            raise SchemeError(f"axes {data!r}: {error}.") from error


@dataclass(frozen=True)
class Fans:
    """fan_in and fan_out; fractions occur for strides that do not divide the kernel."""

    fan_in: float
    fan_out: float

    @property
    def average(self) -> float:
        """fan_avg = (fan_in + fan_out) / 2."""
        return (self.fan_in + self.fan_out) / 2


@dataclass(frozen=True)
class Block:
    """One independent piece of a weight: where it starts along ``outputs[0]``, shape and axes."""

    start: int
    shape: tuple[int, ...]
    axes: Axes


def dense_axes(shape: Sequence[int]) -> Axes:
    """The axes of a tensor of which only the shape is known, by PyTorch's convention.

    ``(out, in, *kernel)`` from two dimensions on; below that a vector of outputs.
    """
    if len(shape) == 0:
        return Axes(outputs=())
    if len(shape) == 1:
        return Axes(outputs=0)
    return Axes(outputs=0, inputs=1, receptive=tuple(range(2, len(shape))))
