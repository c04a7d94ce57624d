"""A change of a tensor: what it is of the tensor itself, and how large."""

from dataclasses import dataclass

from fanin.propagation.quadrature import Array, expectation
from fanin.propagation.state import State


@dataclass(frozen=True)
class Stretch:
    """What a tensor changes by when the site is stretched by the unit.

    Args:
        degree: k where the change is k times the tensor itself; None where it is not.
        values: the change on the nodes of the tensor's base; None where it has none.
        square: its second moment.
        cross: its mean product with the tensor.
        statistic: the tensor is a statistic over features, on its way to a norm's division.
    """

    degree: float | None
    values: Array | None
    square: float
    cross: float
    statistic: bool = False


STATISTIC = Stretch(None, None, 0.0, 0.0, statistic=True)


def whole_times(state: State, degree: float) -> Stretch:
    """The change of a tensor that is stretched as a whole."""
    q = state.second_moment
    return Stretch(degree, degree * state.values, degree**2 * q, degree * q)


def of_values(state: State, values: Array) -> Stretch:
    """A change that is a function of the base of the tensor, given on its nodes."""
    q = state.second_moment
    power = expectation(state.values**2)
    # Values are the function of one number; profiles and clipped tails change the moments a bit.
    scale = q / power if power > 0 else 1.0
    degree = expectation(values * state.values) / power if power > 0 else 0.0
    if expectation((values - degree * state.values) ** 2) <= 1e-9 * max(power, 1e-300):
        return whole_times(state, degree)
    return Stretch(
        None, values, scale * expectation(values**2), scale * expectation(values * state.values)
    )


def scaled(stretch: Stretch, ratio: float) -> Stretch:
    """Behind an operation that multiplies the power of tensor and change alike."""
    return Stretch(None, None, ratio * stretch.square, ratio * stretch.cross)


def times(stretch: Stretch, factor: float) -> Stretch:
    """The change of a tensor and the tensor itself, both times a number."""
    values = None if stretch.values is None else factor * stretch.values
    return Stretch(None, values, factor**2 * stretch.square, factor**2 * stretch.cross)


def centred(stretch: Stretch, mean: float) -> Stretch:
    """The change of a tensor less its mean over features."""
    if stretch.values is None:
        return stretch
    level = expectation(stretch.values)
    return Stretch(None, stretch.values - level, stretch.square - level**2,
                   stretch.cross - level * mean)  # fmt: skip
