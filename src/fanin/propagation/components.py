"""What the gradient of a tensor consists of: one component from each source.

Signs of gradients from different sources have nothing to do with each other, so that their squares
add up.  What reaches a tensor from one source by several ways (directly and through x·σ(x), or
through a view) adds up coherently, place by place.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from fanin.propagation.nearness import NONE, Near, mixed
from fanin.propagation.nearness_kept import of_products
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import Array, expectation, pair_moments
from fanin.propagation.row_strength import Strength
from fanin.propagation.row_strength import mixed as mixed_strengths
from fanin.propagation.state import State

MOST_SOURCES = 32
"""More sources than this are joined into one: long residual streams collect one per branch."""
_ALIKE = 0.9
"""Cosine of the amplitudes of two gradients, place by place, from which on they stand together: the
product of both is then off by a tenth at most."""


@dataclass
class Component:
    """Gradient of a tensor from one source: a random part times a function of the tensor's value.

    Attributes:
        pairs: pair moments of the random part.
        slope: the function, on the nodes of the tensor's base; a number where it is constant.
        piece: power of the matrix stretch that it is about to meet, over the whole matrix's.
        profile: how its power is spread over the places.
        near: which places are alike.
        opposite: the units of a mirrored pair, z and −z, receive b·φ′(z) and −b·φ′(−z) with one b.
        strength: how it goes with the power of its row.
    """

    pairs: Array
    slope: float | Array = 1.0
    piece: float = 1.0
    profile: Profile = None
    near: Near = field(default_factory=dict)
    opposite: bool = False
    strength: Strength | None = None

    @property
    def power(self) -> float:
        """Mean square of its elements."""
        slope = self.slope
        square = slope**2 if isinstance(slope, float) else expectation(slope**2)
        return float(self.pairs.flat[0]) * square


Gradient = dict[Hashable, Component]
"""Of one tensor: source → what comes from it."""


def receive(gradient: Gradient, arriving: Gradient, way: int) -> None:
    """Add what comes by one way to what a tensor has received.

    Args:
        gradient: what the tensor has; changed in place.
        arriving: what comes.
        way: number of the way among those of its operation: what comes from a source that the
            tensor knows, but stands at other places, is kept apart under it.
    """
    for source, component in arriving.items():
        if source in gradient and _alike(gradient[source], component):
            gradient[source] = _together(gradient[source], component)
        elif source in gradient:
            gradient[source, way] = component
        else:
            gradient[source] = component


def _alike(one: Component, two: Component) -> bool:
    """Whether two gradients from one source stand at the same places."""
    if one.pairs.shape != two.pairs.shape:
        return False
    if one.profile is None or two.profile is None:
        return one.profile is two.profile
    if one.profile.ndim != two.profile.ndim:
        return False
    return bool(np.sqrt(one.profile * two.profile).mean() >= _ALIKE)


def _together(one: Component, two: Component) -> Component:
    """The sum of two gradients from one source that stand at the same places."""
    profile = one.profile
    if one.profile is not None and two.profile is not None and one.profile is not two.profile:
        whole = one.power + two.power
        if whole > 0:
            profile, _ = settled((one.power * one.profile + two.power * two.profile) / whole)
    near = one.near
    if (one.near or two.near) and one.near is not two.near:
        near = mixed((c.power, c.near) for c in (one, two))
    strength = one.strength
    if strength is not two.strength:
        strength = mixed_strengths((c.power, c.strength) for c in (one, two))
    return replace(one, slope=one.slope + two.slope, profile=profile, near=near, strength=strength)


def joined(gradient: Gradient, state: State, source: Hashable) -> Gradient:
    """All sources of a tensor's gradient as one, under a new name."""
    pairs = total_pairs(gradient, state)
    profile = total_profile(gradient, state)
    pairs, near = total_near(gradient, state, pairs)
    strength = mixed_strengths((c.power, c.strength) for c in gradient.values())
    return {source: Component(pairs, profile=profile, near=near, strength=strength)}


def total_pairs(
    gradient: Gradient, state: State, *, pieces: bool = False, mirrored: bool = False
) -> Array:
    """Pair moments of a tensor's gradient, all sources together.

    With ``pieces`` each is weighted by the power of the matrix stretch that it is about to meet;
    with ``mirrored`` they are those of the differences of opposite units over √2, which is what a
    mirrored matrix mixes.
    """
    total = np.zeros_like(state.pairs)
    for component in gradient.values():
        total = total + component.pairs * _slope_moments(component, state, pieces, mirrored)
    return total


def _slope_moments(
    component: Component, state: State, pieces: bool = False, mirrored: bool = False
) -> Array | float:
    factor = component.piece if pieces else 1.0
    slope = component.slope
    if mirrored and component.opposite:
        slope = (slope + (slope if isinstance(slope, float) else slope[::-1])) / 2**0.5
    if isinstance(slope, float):
        return factor * slope**2
    return factor * pair_moments(slope, state.base.correlations)


def total_along(gradient: Gradient, state: State) -> Array:
    """Pair moments of g·z, all sources together: z is the base of the state, standardised.

    What an activation behind a norm sends back is u·φ′(z); where u is the same in many places, as
    behind a mean over positions, part of it lies along z.
    """
    base = state.base
    total = np.zeros_like(state.pairs)
    if base.std == 0.0:
        return total
    z = (base.values - base.mean) / base.std
    for component in gradient.values():
        moments = pair_moments(z * component.slope, base.correlations)
        total = total + component.pairs * moments
    return total


def total_near(
    gradient: Gradient, state: State, total: Array, own: Near = NONE
) -> tuple[Array, Near]:
    """Which places of a tensor's gradient are alike, all sources together.

    Args:
        gradient: of the tensor.
        state: of the tensor.
        total: its pair moments.
        own: which places of the tensor are alike: their slopes are, too.

    Returns:
        Its pair moments, neighbours counted as what they are, and R by axis.
    """
    if not any(component.near for component in gradient.values()):
        return total, NONE
    parts = ((c.pairs, _slope_moments(c, state), c.near) for c in gradient.values())
    return of_products(total, parts, state, own)


def total_by_value(gradient: Gradient) -> Array | None:
    """Root mean square of a tensor's gradient on the nodes of its base, of mean square 1.

    None where no source depends on the tensor's own value.
    """
    if all(isinstance(component.slope, float) for component in gradient.values()):
        return None
    square = np.asarray(sum(float(c.pairs.flat[0]) * np.square(c.slope) for c in gradient.values()))
    power = expectation(square)
    return np.asarray(np.sqrt(square / power)) if power > 0 else None


def total_profile(gradient: Gradient, state: State) -> Profile:
    """Profile of a tensor's gradient: those of all sources, each with its power."""
    if all(component.profile is None for component in gradient.values()):
        return None
    total: Array = np.zeros((1,) * len(state.axes))
    for component in gradient.values():
        power = float(np.ravel(component.pairs.flat[0] * _slope_moments(component, state))[0])
        total = total + power * even(component.profile, len(state.axes))
    return settled(total)[0]
