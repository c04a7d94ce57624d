"""Normalisations: layer, batch, group, instance and RMS norms as ATen runs them.

Written out by hand (mean, subtract, square, rsqrt, multiply) a norm needs no rule of its own: its
parts have theirs.
"""

import math
from collections.abc import Sequence

import numpy as np

from fanin.propagation import profile as profiles
from fanin.propagation.algebra import (
    added,
    aligned,
    averaged,
    centred_pairs,
    mean_pairs,
    multiplied,
    positions_of,
)
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry, unchanged
from fanin.propagation.distributions import is_gaussian, within_channels
from fanin.propagation.echo import left_of_channel
from fanin.propagation.factors import mover, times
from fanin.propagation.families.views import reshaped
from fanin.propagation.layout import Axes, fit, fit_flat
from fanin.propagation.norm_parts import levelled_parts, powers_of_parts
from fanin.propagation.norm_power import NormPower
from fanin.propagation.normalised_values import normalised_values
from fanin.propagation.numbers_behind_norms import power_of_norm
from fanin.propagation.own_direction import without_own_direction
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.profile import reshaped as reshaped_profile
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, constant, distributed, gaussian, with_powers

_LAYER = ("native_layer_norm", "_fused_rms_norm", "rms_norm")
_BATCH = (
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update",
    "_native_batch_norm_legit_functional", "_batch_norm_no_update",
)  # fmt: skip


_PRODUCTS = ("mm", "addmm", "convolution")


class _Plan:
    """Which shape and axes a norm works on, and with what scale and shift."""

    def __init__(self, call: Call) -> None:
        state = call.state(0)
        shape = state.shape
        self.view = shape
        self.centre = True
        self.fixed: tuple[State, State] | None = None
        self.weight_position, self.bias_position = 1, 2
        if call.name in _LAYER:
            self.weight_position, self.bias_position = 2, 3
            self.centre = call.name == "native_layer_norm"
            count = len(call.raw(1))
            self.dims = list(range(len(shape) - count, len(shape)))
            eps = call.raw(4 if self.centre else 3, "eps")
            self.eps = 1e-6 if eps is None else float(eps)
            self.parameter_axis: int | None = None
        elif call.name == "native_group_norm":
            groups = int(call.raw(6))
            self.view = (shape[0], groups, shape[1] // groups, *shape[2:])
            self.dims = list(range(2, len(self.view)))
            self.eps = float(call.raw(7))
            self.parameter_axis = 1
        else:
            self.dims = [i for i in range(len(shape)) if i != 1]
            no_training = call.name.endswith("no_training")
            last = call.operation.args[-1]
            self.eps = float(call.raw(6 if no_training else 7, "eps", last) or 0.0)
            if call.name == "_batch_norm_with_update":
                self.eps = float(call.raw(6))
            training = not no_training and (
                call.name == "_batch_norm_with_update" or bool(call.raw(5))
            )
            running = call.optional(3), call.optional(4)
            if not training and running[0] is not None and running[1] is not None:
                self.fixed = running[0], running[1]
            self.parameter_axis = 1

    def parameter(self, call: Call, position: int, default: float) -> State:
        """Scale or shift, with axes of length 1 behind it so that it broadcasts."""
        found = call.optional(position)
        if found is None:
            return constant((), default)
        if self.parameter_axis is None:
            return found
        trailing = len(call.state(0).shape) - 2
        return reshaped(found, (*found.shape, *(1,) * trailing))


@forward(*_LAYER, *_BATCH, "native_group_norm", leaves=True)
def norm(call: Call) -> list[State | None]:
    """Unit second moment, the mean over the normalised axes taken off."""
    plan, state = _Plan(call), call.state(0)
    if plan.fixed is not None:
        return _with_running_statistics(call, plan, state)
    view = reshaped(state, plan.view)
    # An RMS norm divides by the root mean square, a layer norm by the centred one.
    centred = centred_pairs(view.pairs, view.axes, plan.dims) if plan.centre else view.pairs
    own = max(float(centred.flat[0]), 0.0)
    divided = power_of_norm(call, view, plan.dims, plan.eps, centre=plan.centre, power=own)
    power = own + plan.eps
    level = divided.expected()[0] / own if own > 0 else 0.0
    unit_pairs = fit_flat(centred * level, view.axes, state.axes)
    mean = 0.0 if plan.centre else state.mean * level**0.5
    unit = gaussian(state.axes, mean, unit_pairs)
    channels = _powers_of_parts(call, plan)
    if channels is None:
        unit = with_powers(unit, _levelled(view, plan, power, state.shape))
    else:
        unit = with_powers(unit, levelled_parts(view, plan.dims, plan.eps, channels))
    values = normalised_values(round(divided.bounded, 4), round(divided.uneven, 4))
    if values is None and not is_gaussian(state.values):
        values = _shape_left(state, view, plan)
    if values is not None and plan.centre and unit.base.std > 0:
        unit = distributed(unit, unit.base.std * values)
    call.parts.keep(call.operation, "unit", unit)
    call.parts.keep(call.operation, "divided", divided)
    scale = plan.parameter(call, plan.weight_position, 1.0)
    out = multiplied(unit, scale)
    if call.name == "native_layer_norm" or call.name not in _LAYER:
        out = added(out, plan.parameter(call, plan.bias_position, 0.0))
    mean_state = averaged(view, plan.dims, keep=False) if plan.centre else None
    return [out.with_flags(state), *_statistics(call, divided.expected()[1], mean_state)]


def _levelled(view: State, plan: _Plan, power: float, shape: Sequence[int]) -> Profile:
    """Powers behind a norm: what each place had over what is averaged with it.

    A token of zeros stays one, and what is weaker than √eps stays weak.
    """
    if view.profile is None or power <= plan.eps:
        return None
    together = view.profile.mean(axis=tuple(plan.dims), keepdims=True)
    own = power - plan.eps
    found: Array = view.profile * power / (own * together + plan.eps)
    if shape == view.shape:
        return found
    profile, mean = settled(found)
    back = profiles.reshaped(profile, view.shape, shape)
    return np.full((1,) * len(shape), mean) if back is None else back * mean


def _shape_left(state: State, view: State, plan: _Plan) -> Array:
    """What is left of a distribution that is no Gaussian: each channel has a mean of its own."""
    shared = mean_pairs(view.base.correlations, view.axes, plan.dims).flat[0]
    return within_channels(state.values, float(shared))


def _powers_of_parts(call: Call, plan: _Plan) -> Array | None:
    """Of the channels of a batch norm; None where all are of one kind, or none are told apart."""
    source = call.tensor(0)
    grouped = tuple(plan.view) != tuple(call.state(0).shape)
    if plan.parameter_axis != 1 or 1 in plan.dims or source is None or grouped:
        return None
    return powers_of_parts(call, source, plan.dims)


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


def _with_running_statistics(call: Call, plan: _Plan, state: State) -> list[State | None]:
    assert plan.fixed is not None
    mean, variance = plan.fixed
    factor = float(np.mean(1 / np.sqrt(max(variance.mean, 0.0) + plan.eps)))
    from fanin.propagation.algebra import scaled

    trailing = len(state.shape) - 2
    centre = reshaped(mean, (*mean.shape, *(1,) * trailing))
    unit = scaled(added(state, scaled(centre, -1.0)), factor)
    call.parts.keep(call.operation, "unit", unit)
    call.parts.keep(call.operation, "divided", NormPower(factor**-2, 0.0))
    out = added(multiplied(unit, plan.parameter(call, 1, 1.0)), plan.parameter(call, 2, 0.0))
    return [out.with_flags(state), *_statistics(call, factor**2, None)]


@backward(*_LAYER, *_BATCH, "native_group_norm")
def norm_backward(call: Call) -> list[Pass]:
    """γ g / σ, less its mean and less its part along the normalised input."""
    plan, state, made = _Plan(call), call.state(0), call.made()
    unit: State = call.parts.kept(call.operation, "unit")
    divided: NormPower = call.parts.kept(call.operation, "divided")
    scale = plan.parameter(call, plan.weight_position, 1.0)
    factor = aligned(made, scale)[1].pairs
    view = reshaped(state, plan.view)
    numbers = centred_pairs(view.pairs, view.axes, plan.dims) if plan.centre else view.pairs
    inside = positions_of(view.axes, plan.dims)

    def folded(pairs: Array) -> Array:
        return fit_flat(fit(pairs * factor, made.axes, state.axes), state.axes, view.axes)

    def move(pairs: Array) -> Array:
        return fit(pairs * factor, made.axes, state.axes) / divided.power

    mean_left, left = left_of_channel(call) if call.name in _BATCH else (1.0, 1.0)

    def move_along(pairs: Array, along: Array) -> Array:
        given = folded(pairs)
        if plan.centre:
            given = given - mean_left * mean_pairs(given, view.axes, plan.dims)
        own = float(mean_pairs(folded(along), view.axes, plan.dims).flat[0]) * left
        found = without_own_direction(given, numbers, own, view.axes, inside, divided)
        return fit_flat(found, view.axes, state.axes)

    passes = []
    source = call.tensor(0)
    if source is not None:
        along = None if plan.fixed is not None else move_along
        carry = _by_own_power(plan, view, state, _powers_of_parts(call, plan))
        maker = call.graph.producer.get(source)
        # Behind a matrix its input's own size has a say in what gates the norm's output opens.
        kept = _kept if maker is not None and maker.name in _PRODUCTS else None
        passes.append(Pass(source, move, by_value=kept, carry=carry, move_along=along))
    for position, factor_pairs in (
        (plan.weight_position, aligned(made, unit)[1].pairs),
        (plan.bias_position, None),
    ):
        tensor = call.tensor(position)
        if tensor is None:
            continue
        target = plan.parameter(call, position, 0.0)
        to = mover(made.axes, target.axes)
        true_axes = call.states[tensor].axes

        def back(
            pairs: Array,
            to: object = to,
            factor: Array | None = factor_pairs,
            have: Axes = target.axes,
            want: Axes = true_axes,
        ) -> Array:
            found = times(to, factor)(pairs) if factor is not None else to(pairs)  # type: ignore[arg-type,operator]
            return fit_flat(found, have, want)

        passes.append(Pass(tensor, back))
    return passes


def _kept(values: Array | None) -> Array | None:
    return values


def _by_own_power(plan: _Plan, view: State, state: State, channels: Array | None) -> Carry:
    """Each place is divided by its own power: weak ones receive large gradients."""
    others = view.profile
    if plan.fixed is not None or (others is None and channels is None):
        return unchanged
    q = view.second_moment
    if channels is not None:
        q = float(channels.mean())
        powers = channels / q if q > 0 else np.ones_like(channels)
    else:
        powers = even(others, len(view.shape)).mean(axis=tuple(plan.dims), keepdims=True)
    level = q / (q + plan.eps) if q > 0 else 1.0
    inverse = 1 / np.maximum(level * powers + (1 - level), 1e-12)

    def carry(profile: Profile) -> Carried:
        folded = reshaped_profile(profile, state.shape, view.shape)
        found, factor = settled(even(folded, len(view.shape)) * inverse)
        return reshaped_profile(found, view.shape, state.shape), factor

    return carry


@forward("_weight_norm_interface", "_weight_norm", leaves=True)
def weight_norm(call: Call) -> list[State | None]:
    """G · v / ‖v‖ per output: the direction keeps v's moments, the length is g's."""
    v, g = call.state(0), call.state(1)
    dim = int(call.raw(2, "dim", 0) or 0)
    count = math.prod(n for k, n in enumerate(v.shape) if k != dim)
    q = v.second_moment
    factor = 1 / (q * count) if q > 0 else 0.0
    direction = gaussian(v.axes, v.mean * factor**0.5, v.pairs * factor)
    call.parts.keep(call.operation, "factor", factor)
    made = multiplied(direction, g).with_flags(v, g)
    norm = constant(call.shape(1), (q * count) ** 0.5) if len(call.operation.outputs) > 1 else None
    return [made, norm]


@backward("_weight_norm_interface", "_weight_norm")
def weight_norm_backward(call: Call) -> list[Pass]:
    """To v: g/‖v‖ of what is not along v. To g: the part along v."""
    v, g, made = call.state(0), call.state(1), call.made()
    factor: float = call.parts.kept(call.operation, "factor")
    one, two = call.tensor(0), call.tensor(1)
    scale = aligned(made, g)[1].pairs * factor
    along = v.pairs * factor
    to = mover(made.axes, g.axes)
    passes = []
    if one is not None:
        passes.append(Pass(one, lambda p: fit(p * scale, made.axes, v.axes)))
    if two is not None:
        passes.append(Pass(two, lambda p: to(fit(p, made.axes, v.axes) * along)))
    return passes
