"""Maps resized by interpolation (nearest, linear, cubic) or padded by copies of themselves.

Along each axis a matrix A says what each new place takes from the old ones; its rows sum to 1. It
is found by resizing the identity, so that every mode and every way to align corners is the
recorded one's own.
"""

from functools import lru_cache

import numpy as np
import torch

from fanin.propagation.call import Call, resolve
from fanin.propagation.carrying import Carry, resampled
from fanin.propagation.layout import fit, plain_axes
from fanin.propagation.nearness import (
    NONE,
    Near,
    by_matrices,
    kernel_of,
    of_axis,
    off_diagonal,
)
from fanin.propagation.profile import MOST_PLACES
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian, with_powers
from fanin.propagation.windows import pulled_back, resized, spatial_axes, under_plain

_PADDED = (
    "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "replication_pad1d", "replication_pad2d", "replication_pad3d",
)  # fmt: skip
_RESIZED = (
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip


@lru_cache(maxsize=128)
def interpolation(
    name: str, overload: str, given: int, made: int, align: bool | None, scale: float | None
) -> Array:
    """A of one axis, (made, given).

    Args:
        name: the operation.
        overload: of the operation.
        given: places before.
        made: places after.
        align: whether the corners stay where they are; None for modes that do not ask.
        scale: the factor that was asked for; None where it follows from the lengths.
    """
    space = int(name.removesuffix("_aa")[-2])
    function = resolve(name, overload)
    assert function is not None
    x = torch.eye(given, dtype=torch.float64).reshape(given, 1, given, *[1] * (space - 1))
    # Two places along the other axes: one can be taken for a channel in another order of memory.
    x = x.expand(given, 1, given, *[2] * (space - 1)).contiguous()
    settings = [] if align is None else [align]
    out = function(x, [made, *[2] * (space - 1)], *settings, scale, *[None] * (space - 1))
    return np.asarray(out.reshape(given, made, -1)[..., 0].T.numpy())


@lru_cache(maxsize=128)
def copies(mode: str, given: int, before: int, after: int) -> Array:
    """A of one axis that is padded by copies: by reflection, or of its ends."""
    places = np.pad(np.arange(given), (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]
    places = places[max(-before, 0) : len(places) - max(-after, 0)]
    return np.asarray(np.eye(given)[places])


def _matrices(call: Call) -> dict[int, Array]:
    """A by axis."""
    if call.name in _PADDED:
        space, widths = int(call.name[-2]), [int(n) for n in call.raw(1, "padding")]
        mode, axes = "reflect" if "reflection" in call.name else "edge", spatial_axes(call, space)
        shape = call.state(0).shape
        return {
            d: copies(mode, shape[d], *widths[2 * (space - 1 - k) : 2 * (space - k)])
            for k, d in enumerate(axes)
        }
    space = int(call.name.removesuffix("_aa")[-2])
    first = 2 if "nearest" in call.name else 3
    align = None if "nearest" in call.name else bool(call.raw(2, "align_corners"))
    found = {}
    for k, d in enumerate(spatial_axes(call, space)):
        given, made = call.state(0).shape[d], call.shape()[d]
        scale = call.raw(first + k, "scales" + ("_d", "_h", "_w")[k - space] * (space > 1))
        scale = None if scale is None else float(scale)
        overload = call.operation.overload
        found[d] = interpolation(call.operation.name, overload, given, made, align, scale)
    return found


def _mixed(pairs: Array, axis: int, same: float, other: float) -> Array:
    """Pairs of means along one axis: the shares of pairs that agree, of one place and of two."""
    agree, differ = np.take(pairs, 0, axis), np.take(pairs, 1, axis)
    shares = (same, other)
    return np.stack([share * agree + (1 - share) * differ for share in shares], axis=axis)


@forward(*_RESIZED, *_PADDED)
def resize(call: Call) -> State:
    """Σ A² q + (1 − Σ A²) ρ q at each place: between two of the old ones it is weaker.

    Old places that are alike make it stronger: Σ A R A for their nearness R.
    """
    matrices, state = _matrices(call), call.state(0)
    pairs, axes = under_plain(state), plain_axes(state.shape)
    near = call.nearness(0)
    call.leave_nearness(by_matrices(pairs, state.shape, matrices, near))
    powers = pairs
    for position in reversed(range(pairs.ndim)):
        if position not in (sum(n != 1 for n in state.shape[:d]) for d in matrices if axes[d]):
            powers = np.take(powers, 0, position)
    for d, a in matrices.items():
        if not axes[d]:
            powers = np.multiply.outer(powers, np.ones(len(a)))
            continue
        position = sum(n != 1 for n in state.shape[:d])
        together = a @ near.get(d, np.eye(state.shape[d])) @ a.T
        pairs = _mixed(pairs, position, float(np.diag(together).mean()), off_diagonal(together))
        weights = np.stack([np.diag(together), 1 - np.diag(together)])
        powers = np.tensordot(powers, weights, axes=(0, 0))
    made = gaussian(plain_axes(call.shape()), state.mean, resized(pairs, state.shape, call.shape()))
    made = made.with_flags(state)
    if made.second_moment <= 0 or powers.size > MOST_PLACES:
        return made
    shape = call.shape()
    found = powers.reshape((1,) * (len(shape) - powers.ndim) + powers.shape) / made.second_moment
    if state.profile is not None:
        profile = state.profile
        for d, a in matrices.items():
            if profile.shape[d] != 1:
                shares = a**2 / (a**2).sum(axis=1, keepdims=True)
                profile = np.moveaxis(np.tensordot(shares, profile, axes=(1, d)), 0, d)
        if np.broadcast(profile, found).size > MOST_PLACES:
            return made
        found = found * profile
    return with_powers(made, found)


@backward(*_RESIZED, *_PADDED)
def resize_backward(call: Call) -> list[Pass]:
    """Aᵀ g: each old place receives from all the new ones that it is part of."""
    matrices, tensor = _matrices(call), call.tensor(0)
    if tensor is None:
        return []
    state, made = call.state(0), call.made()

    back = {d: a.T for d, a in matrices.items()}

    def move_near(pairs: Array, near: Near) -> tuple[Array, Near]:
        plain = fit(pairs, made.axes, plain_axes(made.shape))
        found = pulled_back(plain, made.shape, state.shape, matrices, near)
        left = by_matrices(plain, made.shape, back, near)
        return fit(found, plain_axes(state.shape), state.axes), left

    def move(pairs: Array) -> Array:
        return move_near(pairs, NONE)[0]

    def carry_near(pairs: Array, near: Near) -> Carry:
        plain = fit(pairs, made.axes, plain_axes(made.shape))
        steps = {}
        for d, a in matrices.items():
            met = a
            if d in near:
                same, differ = of_axis(plain, made.shape, d)
                # What place i of the new ones brings along with those that are like it.
                met = kernel_of(near[d], len(a), 1.0, differ / same if same > 0 else 0.0) @ a
            steps[d] = np.maximum(a * met, 0.0).T
        return resampled(steps)

    return [Pass(tensor, move, carry_near=carry_near, move_near=move_near)]


@forward("pixel_shuffle_copy")
def pixel_shuffle(call: Call) -> State:
    """Channels become positions."""
    state = call.state(0)
    pairs = resized(under_plain(state), state.shape, call.shape())
    return gaussian(plain_axes(call.shape()), state.mean, pairs).with_flags(state)
