"""Normalisations: layer, batch, group, instance and RMS norms as ATen runs them.

Written out by hand (mean, subtract, square, rsqrt, multiply) a norm needs no rule of its own: its
parts have theirs.
"""

import math
from collections.abc import Sequence

import numpy as np

from fanin.propagation.algebra import (
    added,
    aligned,
    averaged,
    centred_pairs,
    mean_pairs,
    multiplied,
    positions_of,
    scaled,
)
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry, unchanged
from fanin.propagation.common_places import left_by_norm, modes_of
from fanin.propagation.distributions import is_gaussian, within_channels
from fanin.propagation.echo import left_of_channel
from fanin.propagation.factors import mover, times
from fanin.propagation.families.views import reshaped
from fanin.propagation.layout import fit, fit_flat
from fanin.propagation.norm_parts import levelled_parts, powers_of_parts
from fanin.propagation.norm_power import NormPower
from fanin.propagation.norm_settings import BATCH_NORMS, ROW_NORMS, NormSettings, settings_of_norm
from fanin.propagation.normalised_values import normalised_values
from fanin.propagation.numbers_behind_norms import power_of_norm
from fanin.propagation.own_direction import without_own_direction
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.profile import reshaped as reshaped_profile
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.rows_alike import with_rows_alike
from fanin.propagation.state import State, constant, distributed, gaussian, with_powers

_PRODUCTS = ("mm", "addmm", "convolution")


@forward(*ROW_NORMS, *BATCH_NORMS, "native_group_norm", leaves=True)
def norm(call: Call) -> list[State | None]:
    """Unit second moment, the mean over the normalised axes taken off."""
    settings, state = settings_of_norm(call), call.state(0)
    if settings.running is not None:
        return _with_running_statistics(call, settings, *settings.running)
    view = reshaped(state, settings.view)
    # An RMS norm divides by the root mean square, a layer norm by the centred one.
    centred = centred_pairs(view.pairs, view.axes, settings.dims) if settings.centre else view.pairs
    own = max(float(centred.flat[0]), 0.0)
    modes = modes_of(call, centred, view, settings.dims) if call.name in BATCH_NORMS else ()
    divided = power_of_norm(call, view, settings, own, modes)
    centred = left_by_norm(centred, view, settings.dims, modes, divided.weights)
    power = own + settings.eps
    level = divided.expected()[0] / own if own > 0 else 0.0
    unit_pairs = fit_flat(centred * level, view.axes, state.axes)
    mean = 0.0 if settings.centre else state.mean * level**0.5
    unit = gaussian(state.axes, mean, unit_pairs)
    channels = _powers_of_parts(call, settings)
    if channels is None:
        unit = with_powers(unit, _levelled(view, settings, power, state.shape))
        unit = with_rows_alike(call, unit) if call.name in ROW_NORMS else unit
    else:
        unit = with_powers(unit, levelled_parts(view, settings.dims, settings.eps, channels))
    values = normalised_values(round(divided.bounded, 4), round(divided.uneven, 4))
    if values is None and not is_gaussian(state.values):
        values = _shape_left(state, view, settings)
    if values is not None and settings.centre and unit.base.std > 0:
        unit = distributed(unit, unit.base.std * values)
    call.parts.keep(call.operation, "unit", unit)
    call.parts.keep(call.operation, "divided", divided)
    scale = settings.parameter(call, settings.weight_position, 1.0)
    out = multiplied(unit, scale)
    if call.name == "native_layer_norm" or call.name not in ROW_NORMS:
        out = added(out, settings.parameter(call, settings.bias_position, 0.0))
    mean_state = averaged(view, settings.dims, keep=False) if settings.centre else None
    return [out.with_flags(state), *_statistics(call, divided.expected()[1], mean_state)]


def _levelled(view: State, settings: NormSettings, power: float, shape: Sequence[int]) -> Profile:
    """Powers behind a norm: what each place had over what is averaged with it.

    A token of zeros stays one, and what is weaker than √eps stays weak.
    """
    if view.profile is None or power <= settings.eps:
        return None
    together = view.profile.mean(axis=tuple(settings.dims), keepdims=True)
    own = power - settings.eps
    found: Array = view.profile * power / (own * together + settings.eps)
    if shape == view.shape:
        return found
    profile, mean = settled(found)
    back = reshaped_profile(profile, view.shape, shape)
    return np.full((1,) * len(shape), mean) if back is None else back * mean


def _shape_left(state: State, view: State, settings: NormSettings) -> Array:
    """What is left of a distribution that is no Gaussian: each channel has a mean of its own."""
    shared = mean_pairs(view.base.correlations, view.axes, settings.dims).flat[0]
    return within_channels(state.values, float(shared))


def _powers_of_parts(call: Call, settings: NormSettings) -> Array | None:
    """Of the channels of a batch norm; None where all are of one kind, or none are told apart."""
    source = call.tensor(0)
    grouped = tuple(settings.view) != tuple(call.state(0).shape)
    if settings.parameter_axis != 1 or 1 in settings.dims or source is None or grouped:
        return None
    return powers_of_parts(call, source, settings.dims)


def _statistics(call: Call, inverse: float, mean: State | None) -> list[State | None]:
    """The saved mean (where one is taken) and reciprocal standard deviation."""
    rest: list[State | None] = []
    for k in range(1, len(call.operation.outputs)):
        shape = call.shape(k)
        if k == 1 and mean is not None and math.prod(shape) == math.prod(mean.shape):
            rest.append(reshaped(mean, shape))
        else:
            rest.append(constant(shape, inverse**0.5))
    return rest


def _with_running_statistics(
    call: Call, settings: NormSettings, mean: State, variance: State
) -> list[State | None]:
    state = call.state(0)
    factor = float(1 / np.sqrt(max(variance.mean, 0.0) + settings.eps))
    centre = reshaped(mean, (*mean.shape, *(1,) * (len(state.shape) - 2)))
    unit = scaled(added(state, scaled(centre, -1.0)), factor)
    call.parts.keep(call.operation, "unit", unit)
    call.parts.keep(call.operation, "divided", NormPower(factor**-2, 0.0))
    out = added(
        multiplied(unit, settings.parameter(call, 1, 1.0)), settings.parameter(call, 2, 0.0)
    )
    return [out.with_flags(state), *_statistics(call, factor**2, None)]


@backward(*ROW_NORMS, *BATCH_NORMS, "native_group_norm")
def norm_backward(call: Call) -> list[Pass]:
    """γ g / σ, less its mean and less its part along the normalised input."""
    settings, state, made = settings_of_norm(call), call.state(0), call.made()
    unit: State = call.parts.kept(call.operation, "unit")
    divided: NormPower = call.parts.kept(call.operation, "divided")
    scale = settings.parameter(call, settings.weight_position, 1.0)
    factor = aligned(made, scale)[1].pairs
    view = reshaped(state, settings.view)
    numbers = centred_pairs(view.pairs, view.axes, settings.dims) if settings.centre else view.pairs
    inside = positions_of(view.axes, settings.dims)

    def folded(pairs: Array) -> Array:
        return fit_flat(fit(pairs * factor, made.axes, state.axes), state.axes, view.axes)

    def move(pairs: Array) -> Array:
        return fit(pairs * factor, made.axes, state.axes) / divided.power

    mean_left, left = left_of_channel(call) if call.name in BATCH_NORMS else (1.0, 1.0)

    def move_along(pairs: Array, along: Array) -> Array:
        given = folded(pairs)
        if settings.centre:
            given = given - mean_left * mean_pairs(given, view.axes, settings.dims)
        own = float(mean_pairs(folded(along), view.axes, settings.dims).flat[0]) * left
        found = without_own_direction(given, numbers, own, view.axes, inside, divided)
        return fit_flat(found, view.axes, state.axes)

    passes = []
    source = call.tensor(0)
    if source is not None:
        along = None if settings.running is not None else move_along
        carry = _by_own_power(settings, view, state, _powers_of_parts(call, settings))
        maker = call.graph.producer.get(source)
        # Behind a matrix its input's own size has a say in what gates the norm's output opens.
        kept = _kept if maker is not None and maker.name in _PRODUCTS else None
        passes.append(Pass(source, move, by_value=kept, carry=carry, move_along=along))
    passes += _to_parameter(call, settings, settings.weight_position, aligned(made, unit)[1].pairs)
    passes += _to_parameter(call, settings, settings.bias_position)
    return passes


def _to_parameter(
    call: Call, settings: NormSettings, position: int, factors: Array | None = None
) -> list[Pass]:
    """To the scale, by what it multiplies, or to the shift; nothing where there is none."""
    tensor, made = call.tensor(position), call.made()
    if tensor is None:
        return []
    axes = settings.parameter(call, position, 0.0).axes
    move = mover(made.axes, axes)
    if factors is not None:
        move = times(move, factors)
    return [Pass(tensor, lambda pairs: fit_flat(move(pairs), axes, call.states[tensor].axes))]


def _kept(values: Array | None) -> Array | None:
    return values


def _by_own_power(
    settings: NormSettings, view: State, state: State, channels: Array | None
) -> Carry:
    """Each place is divided by its own power: weak ones receive large gradients."""
    others = view.profile
    if settings.running is not None or (others is None and channels is None):
        return unchanged
    q = view.second_moment
    if channels is not None:
        q = float(channels.mean())
        powers = channels / q if q > 0 else np.ones_like(channels)
    else:
        powers = even(others, len(view.shape)).mean(axis=tuple(settings.dims), keepdims=True)
    level = q / (q + settings.eps) if q > 0 else 1.0
    inverse = 1 / np.maximum(level * powers + (1 - level), 1e-12)

    def carry(profile: Profile) -> Carried:
        folded = reshaped_profile(profile, state.shape, view.shape)
        found, factor = settled(even(folded, len(view.shape)) * inverse)
        return reshaped_profile(found, view.shape, state.shape), factor

    return carry
