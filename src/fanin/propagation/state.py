"""What is carried for every tensor: its mean and its pair moments.

One array holds all second moments.  For a tensor of shape (samples, positions, features) the
entry [0, 0, 0] is q = E[x²]; [1, 0, 0] is E[x x′] of two samples at the same position and
feature, so that [1, 0, 0] / q is the sample correlation c; [0, 1, 0] / q is the position
correlation ρ; [0, 0, 1] belongs to two features of one sample: 0 behind a fresh zero-mean matrix,
the squared mean behind an activation.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fanin.propagation.base import Base, Finer, at_power, moments_by_power
from fanin.propagation.data_moments import pair_moments_of, quantiles_of
from fanin.propagation.layout import Axes, atoms_of, plain_axes, shape_of
from fanin.propagation.pieces import Pieces
from fanin.propagation.profile import MOST_PLACES, Profile, at_each_power, settled, taken
from fanin.propagation.quadrature import (
    NODES,
    Array,
    expectation,
    pair_moments,
)

_fresh = itertools.count()

MASKING = -5e3
"""Constants below this are a mask's "never": −1e4, the lowest half, or −∞."""
MOST_MEASURED = 1 << 24
"""Tensors of more elements are measured on an evenly spaced part of their first axis."""


@dataclass(frozen=True, eq=False)
class State:
    """Moments of one tensor.

    Args:
        axes: the atoms of each axis, see ``layout``.
        mean: over all elements.
        pairs: E[x x′] for every kind of pair, one axis of length 2 per atom.
        base: the Gaussian tensor that this one is a function of; itself, for most.
        values: that function on the quadrature nodes of the base.
        known: the exact value, for constants, indices and masks.
        blocked: exact boolean value: True where an attention mask holds −∞ or a huge negative.
        mirrored: features come in two halves, the second the negative of the first in the base.
        sampled: rests on an operation that was run on samples.
        pieces: stretches of one axis that differ in power, kept through matrices and views.
        profile: powers place by place, where they differ.
        blocked_level: the number that a mask holds where ``blocked`` is True.
    """

    axes: Axes
    mean: float
    pairs: Array
    base: Base
    values: Array
    known: torch.Tensor | None = None
    blocked: torch.Tensor | None = None
    mirrored: bool = False
    sampled: bool = False
    pieces: Pieces | None = None
    profile: Profile = None
    blocked_level: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return shape_of(self.axes)

    @property
    def second_moment(self) -> float:
        """Q = E[x²]."""
        return float(self.pairs.flat[0])

    @property
    def variance(self) -> float:
        """Q − mean²."""
        return max(self.second_moment - self.mean * self.mean, 0.0)

    @property
    def is_constant(self) -> bool:
        """All elements equal, as far as the moments say."""
        q = self.second_moment
        return self.variance <= 1e-10 * q and bool(np.all(np.abs(self.pairs - q) <= 1e-10 * q))

    def with_flags(self, *others: "State") -> "State":
        """This state, sampled if any of the others is."""
        if self.sampled or not any(other.sampled for other in others):
            return self
        return replace(self, sampled=True)


def gaussian(
    axes: Axes,
    mean: float,
    pairs: Array,
    *,
    sampled: bool = False,
    profile: Profile = None,
) -> State:
    """A tensor that is Gaussian as far as its elements go: the output of a sum of many terms."""
    pairs = np.asarray(pairs, dtype=float)
    level, inner = mean, pairs
    if profile is not None:
        # Places stand for √power · (level + std z): the mean over all of them is E[√power] · level.
        roots = np.sqrt(profile)
        root, most = float(roots.mean()), float(pairs.flat[0]) ** 0.5
        level = float(np.clip(mean / root, -most, most)) if root > 0 else 0.0
        inner = pairs / overlaps(roots, axes)
    std = float(np.sqrt(max(float(pairs.flat[0]) - level * level, 0.0)))
    base = Base(next(_fresh), level, std, inner, profile)
    return State(axes, mean, pairs, base, level + std * NODES, sampled=sampled, profile=profile)


def overlaps(roots: Array, axes: Axes) -> Array:
    """E[√p √p′] for every kind of pair of places, given √p of a profile of mean 1."""
    kinds = np.ones((2,) * len(atoms_of(axes)))
    even = roots.reshape((1,) * (len(axes) - roots.ndim) + roots.shape)
    lengths = [n for axis, m in zip(axes, even.shape, strict=True)
               for n in (axis if m != 1 else (1,) * len(axis))]  # fmt: skip
    found = pair_moments_of(even.reshape(lengths)) if lengths else np.ones(())
    return kinds * np.maximum(found, 1e-12)


def with_powers(state: State, powers: Array | None) -> State:
    """The state with other powers place by place, on the scale of its own second moment.

    The second moment becomes E[x²] times the mean of ``powers``. Equal kinds of pairs keep their
    correlation.
    """
    if powers is None:
        return state
    profile, mean = settled(powers)
    made = gaussian(state.axes, state.mean, state.pairs * mean, profile=profile)
    return replace(made, sampled=state.sampled, blocked=state.blocked,
                   blocked_level=state.blocked_level, mirrored=state.mirrored)  # fmt: skip


def distributed(state: State, values: Array) -> State:
    """The state with a distribution of its own: increasing values on the nodes."""
    return replace(state, values=values, base=replace(state.base, quantiles=values))


def at_places(state: State, dim: int, places: object) -> State:
    """The state of some places of one axis, its axes not yet touched: their own powers."""
    base = state.base
    own, own_power = taken(state.profile, dim, places)
    inner, power = taken(base.profile, dim, places)
    if state.blocked is not None:
        mask = state.blocked.reshape((1,) * (len(state.axes) - state.blocked.dim())
                                     + tuple(state.blocked.shape))  # fmt: skip
        if mask.shape[dim] != 1:
            mask = torch.from_numpy(mask.numpy()[(slice(None),) * dim + (places,)])  # type: ignore[index]
        state = replace(state, blocked=mask)
    if state.profile is None and base.profile is None:
        return state
    values = at_power(state.values, base, power)
    # Equal places of equal bases stay functions of the same numbers: the view names the places.
    root = power**0.5
    quantiles = None if base.quantiles is None else base.quantiles * root
    base = replace(base, mean=base.mean * root, std=base.std * root, pairs=base.pairs * power,
                   profile=inner, quantiles=quantiles)  # fmt: skip
    mean = state.mean
    if power != 1.0 or own_power != 1.0:
        mean = expectation(values) * (1.0 if inner is None else float(np.sqrt(inner).mean()))
    return replace(
        state, mean=mean, pairs=state.pairs * own_power, base=base, values=values, profile=own
    )


def with_places_of_pieces(state: State) -> State:
    """The same numbers, their pieces told as powers place by place, for functions that bend."""
    pieces, base = state.pieces, state.base
    if pieces is None or len(set(pieces.factors)) < 2 or base.mean != 0.0:
        return state
    powers = pieces.powers(len(state.axes))
    shape = powers.shape if base.profile is None else base.profile.shape
    if np.prod(np.broadcast_shapes(powers.shape, shape)) > MOST_PLACES:
        return state
    inner, _ = settled(powers if base.profile is None else base.profile * powers)
    pairs = base.pairs if inner is None else base.pairs / overlaps(np.sqrt(inner), state.axes)
    pairs = pairs * (float(base.pairs.flat[0]) / float(pairs.flat[0]))
    base = replace(base, profile=inner, pairs=pairs)
    return replace(state, pieces=None, profile=inner, base=base)


def moved_profiles(state: State, move: Callable[[Profile], Profile]) -> tuple[Profile, Profile]:
    """Profiles of a state and of its base after a view."""
    same = state.profile is state.base.profile
    own = move(state.profile)
    return own, own if same else move(state.base.profile)


def independent(shape: Sequence[int], mean: float, std: float) -> State:
    """Elements drawn independently of each other."""
    axes = plain_axes(shape)
    pairs = np.full((2,) * len(atoms_of(axes)), mean**2)
    pairs.flat[0] += std**2
    return gaussian(axes, mean, pairs)


def constant(shape: Sequence[int], value: float) -> State:
    """All elements equal."""
    return independent(shape, value, 0.0)


def function_of(state: State, values: Array, finer: Finer | None = None) -> State:
    """An elementwise function of the tensor that ``state`` is a function of.

    Args:
        state: gives the base.
        values: the function on the nodes of the base.
        finer: the function between the nodes, for those that oscillate.
    """
    base = state.base
    if base.std == 0.0:
        value = float(values[len(values) // 2])
        pairs = np.full_like(base.pairs, value**2)
        return replace(
            state,
            mean=value,
            pairs=pairs,
            values=np.full_like(values, value),
            known=None,
            blocked=None,
        )
    first, second = moments_by_power(base, values, finer)
    mean, profile = first(1.0), None
    pairs = pair_moments(values, base.correlations)
    power = float(pairs.flat[0])
    if base.profile is not None:
        mean = float(at_each_power(base.profile, first).mean())
        profile, q = settled(at_each_power(base.profile, second))
    else:
        q = second(1.0) if finer is not None else power
    if q != power:
        pairs = pairs * (q / power) if power > 0 else np.full_like(pairs, q)
    if profile is not None:
        pairs = pairs * overlaps(np.sqrt(profile), state.axes)
    return replace(
        state,
        mean=mean,
        pairs=pairs,
        values=values,
        known=None,
        blocked=None,
        pieces=None,
        profile=profile,
    )


def measured(tensor: torch.Tensor, *, keep: bool) -> State:
    """The exact moments of a tensor, all its elements and pairs counted.

    Args:
        tensor: real numbers, integers or booleans; not on meta.
        keep: hold the value itself too, for constants, indices and masks.
    """
    axes = plain_axes(tensor.shape)
    value = tensor.detach()
    if value.numel() == 0:
        return replace(constant(tensor.shape, 0.0), known=value if keep else None)
    data = value
    if data.numel() > MOST_MEASURED and data.shape[0] > 1:
        data = data[:: max(1, data.numel() // MOST_MEASURED)]
    data = (data.abs() if data.is_complex() else data).to(device="cpu", dtype=torch.float64)
    blocked = None
    if keep and bool((data < MASKING).any()):
        blocked = data < MASKING
        data = data.masked_fill(blocked, 0.0)
    data = torch.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    sizes = [n for n in data.shape if n != 1]
    pairs = pair_moments_of(data.reshape(sizes).numpy() if sizes else data.reshape(()).numpy())
    pairs = pairs.reshape((2,) * len(atoms_of(axes)))
    profile = None
    if keep and data.numel() <= MOST_PLACES and data.shape == value.shape:
        profile, _ = settled(data.square().numpy())
    state = gaussian(axes, float(data.mean()), pairs, profile=profile)
    if not keep:
        # What data look like: images are no Gaussians.
        state = distributed(state, quantiles_of(data.numpy()))
    elif profile is not None and data.std() > 0:
        # The profile says how large it is where; what is left is its sign.
        state = distributed(state, quantiles_of(np.sign(data.numpy())) * state.second_moment**0.5)
    level = float(value.double().min()) if blocked is not None else 0.0
    return replace(state, known=value if keep else None, blocked=blocked, blocked_level=level)
