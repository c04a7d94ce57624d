"""Which positions the taps of a convolution read, and so where its gradients go."""

from functools import lru_cache

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry, forgotten, in_turn, resampled
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import Array


def settings_of(call: Call, space: int) -> list[tuple[int, ...]]:
    """Strides, paddings and dilations of a recorded convolution, one number an axis."""
    found = (tuple(int(n) for n in call.raw(k)) for k in (3, 4, 5))
    return [v * space if len(v) == 1 else v for v in found]


def to_places(call: Call) -> Carry:
    """Samples keep their powers, channels mix, positions receive from the taps that read them."""
    x, w, made = call.state(0).shape, call.state(1).shape, call.shape()
    space = len(w) - 2
    lead = len(x) - space
    transposed = bool(call.raw(6))
    settings = [v * space if len(v) == 1 else v for v in (tuple(call.raw(k)) for k in (3, 4, 5))]
    steps = {}
    for k, (taps, stride, padding, dilation) in enumerate(zip(w[2:], *settings, strict=True)):
        given, out = x[lead + k], made[lead + k]
        if given * out > 1 << 22:
            return forgotten
        if transposed:
            steps[lead + k] = reach(out, given, taps, stride, padding, dilation).T
        else:
            steps[lead + k] = reach(given, out, taps, stride, padding, dilation)
    channel = (lead - 1,)

    def mixed(profile: Profile) -> Carried:
        if profile is None or profile.shape[channel[0]] == 1:
            return profile, 1.0
        return settled(profile.mean(axis=channel, keepdims=True))[0], 1.0

    return in_turn(mixed, resampled(steps))


@lru_cache(maxsize=256)
def reach(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> Array:
    """How many taps of each output position read each input position: (size, out)."""
    found = np.zeros((size, out))
    rows = np.arange(out)
    for tap in range(taps):
        reads = rows * stride - padding + tap * dilation
        valid = (reads >= 0) & (reads < size)
        found[reads[valid], rows[valid]] += 1
    return found


def reads_of_taps(call: Call) -> Array:
    """How much power each tap of the kernel reads, all output positions together."""
    x, taps, made = call.state(0), call.state(1).shape[2:], call.shape()
    space = len(taps)
    lead = len(x.shape) - space
    powers = even(x.profile, len(x.shape)).mean(axis=tuple(range(lead)))
    powers = np.broadcast_to(powers, x.shape[lead:])
    axes = zip(taps, *settings_of(call, space), strict=True)
    for axis, (count, stride, padding, dilation) in enumerate(axes):
        size, out = x.shape[lead + axis], made[lead + axis]
        step = np.zeros((count, size))
        rows = np.arange(out)
        for tap in range(count):
            reads = rows * stride - padding + tap * dilation
            step[tap, reads[(reads >= 0) & (reads < size)]] += 1
        powers = np.moveaxis(np.tensordot(step, powers, axes=(1, axis)), 0, axis)
    return np.asarray(powers)
