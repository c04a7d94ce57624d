"""Which positions the taps of a convolution read, and so where its gradients go."""

from functools import lru_cache
from math import prod

import numpy as np
import torch

from fanin.graph.graph import Ref
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry, forgotten, in_turn, resampled
from fanin.propagation.kernel import kernel_of, whole_kernel
from fanin.propagation.nearness import MOST, NONE, Near, of_axis, reads_of
from fanin.propagation.profile import MOST_PLACES, Profile, even, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State


def to_places(call: Call) -> Carry:
    """Samples keep their powers, channels mix, positions receive from the taps that read them."""
    x, made, kernel = call.state(0).shape, call.shape(), kernel_of(call)
    lead = len(x) - len(kernel.taps)
    transposed = bool(call.raw(6))
    steps = {}
    for k, (taps, stride, padding, dilation) in enumerate(kernel.along_axes()):
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


def nearness_of_taps(call: Call, pairs: Array, near: Near, *, back: bool) -> Near:
    """Which places of the output are alike, given those of the input; or the other way round.

    Weights are fresh: two places meet at the same tap alone.

    Args:
        call: a convolution.
        pairs: of the input, or of the output's gradient, one atom an axis.
        near: which of its places are alike.
        back: whether it goes from the output to the input.
    """
    weight, shapes = call.state(1), (call.state(0).shape, call.shape())
    if weight.mean**2 > 0.01 * weight.second_moment:
        return NONE
    kernel = kernel_of(call)
    turned = bool(call.raw(6))
    one, two = shapes[::-1] if turned else shapes
    given = shapes[1] if back else shapes[0]
    found = {}
    for k, (count, stride, padding, dilation) in enumerate(kernel.along_axes()):
        d = len(given) - len(kernel.taps) + k
        if given[d] == 1 or max(one[d], two[d]) > MOST:
            continue
        reads = reads_of(one[d], two[d], count, stride, padding, dilation, back != turned)
        r = reads.through(near.get(d), *of_axis(pairs, given, d))
        if r is not None:
            found[d] = r
    return found


def reads_of_taps(call: Call) -> Array:
    """How much power each tap of the kernel reads, all output positions together."""
    x, made, kernel = call.state(0), call.shape(), kernel_of(call)
    lead = len(x.shape) - len(kernel.taps)
    powers = even(x.profile, len(x.shape)).mean(axis=tuple(range(lead)))
    powers = np.broadcast_to(powers, x.shape[lead:])
    for axis, (count, stride, padding, dilation) in enumerate(kernel.along_axes()):
        size, out = x.shape[lead + axis], made[lead + axis]
        step = np.zeros((count, size))
        rows = np.arange(out)
        for tap in range(count):
            reads = rows * stride - padding + tap * dilation
            step[tap, reads[(reads >= 0) & (reads < size)]] += 1
        powers = np.moveaxis(np.tensordot(step, powers, axes=(1, axis)), 0, axis)
    return np.asarray(powers)


def inverse_taps_of_places(call: Call) -> float:
    """Mean of 1/n over the output positions of a convolution, n the taps that read something."""
    x, taps = call.state(0), kernel_of(call).taps
    sizes = x.shape[len(x.shape) - len(taps) :]
    if prod(sizes) > MOST_PLACES:
        return 1 / prod(taps)
    lead = tuple(range(len(x.shape) - len(taps)))
    powers = np.broadcast_to(even(x.profile, len(x.shape)).mean(axis=lead), sizes)
    sums, squares = (window_sums(call, values) for values in (powers, powers**2))
    read = sums > 0
    return float((squares[read] / sums[read] ** 2).mean()) if read.any() else 1.0


def window_sums(call: Call, values: Array) -> Array:
    """What the taps at each output position read of numbers at the input positions, summed.

    Args:
        call: a convolution.
        values: (..., *input positions).
    """
    weight, whole = call.state(1), whole_kernel(call)
    space = len(whole.taps)
    lead = values.shape[: values.ndim - space]
    given = torch.from_numpy(np.array(values, dtype=float))
    given = given.reshape(prod(lead), 1, *values.shape[len(lead) :])
    stride, padding, dilation = (list(v) for v in (whole.stride, whole.padding, whole.dilation))
    # The recorded operation knows no negative padding: empty taps read by nothing instead.
    filled = even(weight.profile, len(weight.shape)).max(axis=(0, 1)) > 0
    reading = torch.from_numpy(np.broadcast_to(filled, whole.taps).astype(float))
    extra = list(call.raw(7))
    extra = extra * space if len(extra) == 1 else extra
    sums = torch.ops.aten.convolution(
        given, reading[None, None], None,
        stride, padding, dilation, bool(call.raw(6)), extra, 1,
    )  # fmt: skip
    return np.asarray(sums.numpy()).reshape(*lead, *sums.shape[2:])


def behind_padding(call: Call) -> tuple[State, tuple[int, ...]]:
    """The input of a convolution before zeros were put round it, and how many come first."""
    space = len(call.state(1).shape) - 2
    own = kernel_of(call).padding
    if bool(call.raw(6)):
        return call.state(0), own
    state, before = zeros_around(call, space)
    return state, tuple(p + w for p, w in zip(own, before, strict=True))


def zeros_around(call: Call, space: int) -> tuple[State, tuple[int, ...]]:
    """The first input before zeros were put round its last axes, and how many come first.

    Border and inside of a padded map are no two places of one kind.
    """
    x, none = call.state(0), (0,) * space
    tensor = call.tensor(0)
    maker = None if tensor is None else call.graph.producer.get(tensor)
    if maker is None or maker.name != "constant_pad_nd":
        return x, none
    source, widths = maker.args[0], [int(w) for w in maker.args[1]]
    value = maker.args[2] if len(maker.args) > 2 else maker.kwargs.get("value", 0)
    if not isinstance(source, Ref) or value not in (0, None) or min(widths) < 0:
        return x, none
    if any(widths[2 * space :]):
        return x, none
    widths += [0] * (2 * space - len(widths))
    return call.states[source.tensor], tuple(widths[2 * (space - 1 - k)] for k in range(space))
