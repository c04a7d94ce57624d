"""Convolutions: strides, dilations, groups, zero padding, transposed.

Along each axis a table says which input position every (output position, tap) reads.  From it
follow the share of taps that padding leaves valid, for one position and for pairs, forwards and
backwards, whatever the stride.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod

import numpy as np

from fanin.propagation.algebra import added
from fanin.propagation.call import Call
from fanin.propagation.carrying import forgotten
from fanin.propagation.echo import echo
from fanin.propagation.families.linear import mirrored_input
from fanin.propagation.families.views import reshaped
from fanin.propagation.layout import (
    Arrangement,
    Axes,
    atoms_of,
    fit,
    fit_flat,
    plain_axes,
)
from fanin.propagation.nearness import Near
from fanin.propagation.numbers_behind_norms import taken_back_by_weights
from fanin.propagation.profile import MOST_PLACES, even
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian, with_powers
from fanin.propagation.taps import (
    behind_padding,
    nearness_of_taps,
    settings_of,
    to_places,
    window_sums,
)
from fanin.propagation.windows import under_plain


@dataclass(frozen=True)
class Line:
    """One spatial axis: sums over taps, per output position and per input position.

    ``table[i, j]`` for bits i (pair of outputs: same or other position) and j (same or other
    tap): the mean number of valid tap pairs. The input positions of such a pair agree in
    ``[0, 0]`` and are taken to differ otherwise.
    """

    forward: tuple[tuple[float, float], tuple[float, float]]
    backward: tuple[tuple[float, float], tuple[float, float]]


@lru_cache(maxsize=1024)
def line(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> Line:
    """Tap counts along one axis of a convolution from ``size`` to ``out`` positions."""
    rows = np.minimum(np.arange(out), 4096)
    reads = rows[:, None] * stride - padding + np.arange(taps)[None, :] * dilation
    valid = (reads >= 0) & (reads < size)
    forward = _counts(valid)
    # Turned round: for each input position, which (tap) reaches it from a valid output.
    reached = np.zeros((size, taps), dtype=bool)
    for tap in range(taps):
        inside = valid[:, tap]
        reached[reads[inside, tap], tap] = True
    return Line(forward, _counts(reached))


def _counts(valid: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    n = len(valid)
    v = valid.astype(float)
    per_tap, per_row = v.sum(0), v.sum(1)
    same_same = per_row.mean()
    same_other = (per_row**2).mean() - same_same
    if n > 1:
        other_same = ((per_tap**2).sum() - per_tap.sum()) / (n * (n - 1))
        all_pairs = (per_row.sum() ** 2 - (per_row**2).sum()) / (n * (n - 1))
        other_other = all_pairs - other_same
    else:
        other_same, other_other = same_same, same_other
    return (float(same_same), float(same_other)), (float(other_same), float(other_other))


def _single(pairs: Array, axes: Axes) -> tuple[Axes, Array]:
    """Every axis as one atom, axes of length 1 as one atom too: rank-many bits."""
    arrangement = Arrangement(atoms_of(axes), [pairs])
    position = 0
    for axis in axes:
        for _ in range(len(axis) - 1):
            arrangement.join(position)
        position += 1 if axis else 0
    array = arrangement.arrays[0]
    for i, axis in enumerate(axes):
        if not axis:
            array = np.stack([array, array], axis=i)
    return axes, array


def _unsingle(full: Array, shape: Sequence[int]) -> Array:
    """Back: axes of length 1 lose their atom."""
    for i in reversed(range(len(shape))):
        if shape[i] == 1:
            full = np.take(full, 0, i)
    return full


def spread(
    x: Array,
    w: Array,
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    channels: int,
) -> Array:
    """Pair moments of Σ w x over channels and taps.

    Args:
        x: bits (sample, channel, *space).
        w: bits (output channel, input channel, *taps).
        lines: counts of valid tap pairs per spatial axis.
        channels: input channels of one group.

    Returns:
        Bits (sample, output channel, *space).
    """
    space = len(lines)
    sample, channel_out, channel_in = 0, 1, 2
    out_bits = list(range(3, 3 + space))
    tap_bits = list(range(3 + space, 3 + 2 * space))
    in_bits = list(range(3 + 2 * space, 3 + 3 * space))
    operands: list[object] = [
        x, [sample, channel_in, *in_bits], w, [channel_out, channel_in, *tap_bits],
        np.array([channels, channels * (channels - 1)], float), [channel_in],
    ]  # fmt: skip
    for k, counts in enumerate(lines):
        # Input positions agree only where neither the output position nor the tap differs.
        table = np.zeros((2, 2, 2))
        for i in range(2):
            for j in range(2):
                table[i, j, 1 if i or j else 0] = counts[i][j]
        operands += [table, [out_bits[k], tap_bits[k], in_bits[k]]]
    return np.asarray(
        np.einsum(*operands, [sample, channel_out, *out_bits], optimize="greedy")  # type: ignore[call-overload]
    )


@dataclass(frozen=True)
class _Plan:
    groups: int
    transposed: bool
    lines: tuple[Line, ...]
    per_group_in: int
    per_group_out: int
    batched: bool


def _plan(call: Call, x: Sequence[int], padding: Sequence[int]) -> _Plan:
    """The counts of a convolution of an input of shape ``x``."""
    w, out = call.state(1).shape, call.shape()
    transposed, groups = bool(call.raw(6)), int(call.raw(8))
    space = len(w) - 2
    stride, _, dilation = settings_of(call, space)
    sizes, outs = x[len(x) - space :], out[len(out) - space :]
    lines = tuple(
        # A transposed convolution is the backward pass of one from its output to its input.
        line(o, n, k, s, p, d) if transposed else line(n, o, k, s, p, d)
        for n, o, k, s, p, d in zip(sizes, outs, w[2:], stride, padding, dilation, strict=True)
    )
    if transposed:
        return _Plan(groups, True, lines, w[0] // groups, w[1], len(x) == space + 2)
    return _Plan(groups, False, lines, w[1], w[0] // groups, len(x) == space + 2)


def _bits(state: State, rank: int) -> Array:
    axes = ((),) * (rank - len(state.axes)) + state.axes
    return _single(state.pairs, axes)[1]


@forward("convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution",
         "_convolution")  # fmt: skip
def convolution(call: Call) -> State:
    """N σ² q times the share of taps that padding leaves."""
    weight = call.state(1)
    x, before = behind_padding(call)
    plan = _plan(call, x.shape, before)
    if weight.mirrored and x.mirrored:
        x = mirrored_input(x)
    rank = len(weight.axes)
    w = _bits(weight, rank)
    if plan.transposed:
        w = w.swapaxes(0, 1)
    counts = [(ln.backward if plan.transposed else ln.forward) for ln in plan.lines]
    found = spread(_bits(x, rank), w, counts, plan.per_group_in)
    shape = call.shape()
    full_shape = shape if plan.batched else (1, *shape)
    mean = x.mean * weight.mean * plan.per_group_in * prod(c[0][0] for c in counts)
    made = gaussian(plain_axes(shape), mean, _unsingle(found, full_shape))
    made = with_powers(made, _powers(call, plan, x, prod(c[0][0] for c in counts)))
    given = under_plain(call.state(0)), call.nearness(0)
    call.leave_nearness(nearness_of_taps(call, *given, back=False))
    bias = call.optional(2)
    if bias is not None:
        made = added(made, reshaped(bias, (*bias.shape, *(1,) * (rank - 2))))
    mirrored = weight.mirrored and (bias is None or bias.second_moment == 0.0)
    return replace(made.with_flags(x, weight), mirrored=mirrored)


def _powers(call: Call, plan: _Plan, inner: State, taps: float) -> Array | None:
    """Powers of the output place by place: what the taps read, over ``taps`` even valid ones.

    Borders read padding; corners more of it.
    """
    space = len(plan.lines)
    x, weight = call.state(0), call.state(1)
    scale = x.second_moment / inner.second_moment if inner.second_moment > 0 else 1.0
    sizes = x.shape[len(x.shape) - space :]
    padded = any(line.forward[0][0] != weight.shape[2 + k] for k, line in enumerate(plan.lines))
    if (x.profile is None and not padded and not plan.transposed) or taps <= 0:
        return None
    if prod(sizes) > MOST_PLACES or weight.mean**2 > 0.01 * weight.second_moment:
        return None
    given = even(x.profile, len(x.shape))
    if not plan.batched:
        given = given[None]
    channelwise = plan.groups == x.shape[-space - 1] and plan.per_group_out == 1
    if not channelwise:
        given = given.mean(axis=1, keepdims=True)
    lead = given.shape[:2]
    if prod(lead) * prod(sizes) > MOST_PLACES:
        given, lead = given.mean(axis=(0, 1), keepdims=True), (1, 1)
    sums = window_sums(call, np.broadcast_to(given, (*lead, *sizes)))
    found = sums / taps * scale
    return found if plan.batched else found[0]


@backward("convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution",
          "_convolution")  # fmt: skip
def convolution_backward(call: Call) -> list[Pass]:
    """The transposed convolution of g; the weight sums g x over samples and positions."""
    made, weight, x = call.made(), call.state(1), call.state(0)
    plan = _plan(call, x.shape, settings_of(call, len(weight.shape) - 2)[1])
    rank = len(weight.axes)

    def full(pairs: Array, axes: Axes) -> Array:
        axes = ((),) * (rank - len(axes)) + axes
        return _single(pairs, axes)[1]

    def to_input(pairs: Array) -> Array:
        w = _bits(weight, rank)
        if not plan.transposed:
            w = w.swapaxes(0, 1)
        counts = [(ln.forward if plan.transposed else ln.backward) for ln in plan.lines]
        g = full(pairs, made.axes)
        found = spread(g, w, counts, plan.per_group_out)
        if plan.groups > 1 and plan.per_group_in * plan.groups > 1:
            # Channels of another group are read by other weights.
            apart = [np.stack([np.take(a, 1, k)] * 2, axis=k) for a, k in ((g, 1), (w, 1))]
            other = spread(apart[0], apart[1], counts, plan.per_group_out)[:, 1]
            near = (plan.per_group_in - 1) / (plan.per_group_in * plan.groups - 1)
            found[:, 1] = near * found[:, 1] + (1 - near) * other
        found = found * taken_back_by_weights(call)
        shape = x.shape if plan.batched else (1, *x.shape)
        plain = _unsingle(found, shape)
        return fit(plain, plain_axes(x.shape), x.axes)

    def to_weight(pairs: Array) -> Array:
        g, bits = full(pairs, made.axes), _bits(x, rank)
        # dW[o, i, t] = Σ over samples and positions of g[o] x[i]: sum pairs of both.
        samples = made.shape[0] if plan.batched else 1
        total = np.zeros((2, 2, *(2,) * (rank - 2)))
        product = g[:, :, None] * bits[:, None]  # sample, out, in, *space
        positions = [
            (ln.forward[0][0] / max(weight.shape[2 + k], 1))
            * made.shape[len(made.shape) - (rank - 2) + k]
            if not plan.transposed
            else float(x.shape[len(x.shape) - (rank - 2) + k])
            for k, ln in enumerate(plan.lines)
        ]
        summed = np.tensordot(np.array([samples, samples * (samples - 1)], float), product, (0, 0))
        for n in positions:
            summed = np.tensordot(summed, np.array([n, n * max(n - 1, 0.0)], float), axes=(2, 0))
        view = summed.reshape(2, 2, *(1,) * (rank - 2))
        total[...] = view
        # Other taps read other positions: pairs of taps keep what differing positions share.
        if plan.transposed:
            total = total.swapaxes(0, 1)
        return fit(_unsingle(total, weight.shape), plain_axes(weight.shape), weight.axes)

    def to_input_near(pairs: Array, near: Near) -> tuple[Array, Near]:
        plain = fit(pairs, made.axes, plain_axes(made.shape))
        return to_input(pairs), nearness_of_taps(call, plain, near, back=True)

    passes = []
    carries = to_places(call), forgotten
    for position, (move, carry) in enumerate(zip((to_input, to_weight), carries, strict=True)):
        tensor = call.tensor(position)
        if tensor is not None:
            mirrored = weight.mirrored and position == 0
            by_value = partial(echo, call, 0, 1) if position == 0 and not mirrored else None
            near = to_input_near if position == 0 else None
            passes.append(Pass(tensor, move, by_value=by_value, carry=carry, mirrored=mirrored,
                               move_near=near))  # fmt: skip
    bias = call.tensor(2)
    if bias is not None:
        target = call.states[bias]
        from fanin.propagation.algebra import summed_pairs

        def to_bias(pairs: Array) -> Array:
            channel = 1 if plan.batched else 0
            dims = [i for i in range(len(made.axes)) if i != channel]
            return fit_flat(
                summed_pairs(pairs, made.axes, dims), (made.axes[channel],), target.axes
            )

        passes.append(Pass(bias, to_bias, carry=forgotten))
    return passes
