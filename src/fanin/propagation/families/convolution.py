"""Convolutions: strides, dilations, groups, zero padding, transposed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np

from fanin.propagation.algebra import added, summed_pairs
from fanin.propagation.call import Call
from fanin.propagation.carrying import forgotten
from fanin.propagation.echo import echo
from fanin.propagation.families.linear import mirrored_input
from fanin.propagation.families.views import reshaped
from fanin.propagation.kernel import Kernel, kernel_of, whole_kernel
from fanin.propagation.layout import fit, fit_flat, plain_axes
from fanin.propagation.nearness import Near
from fanin.propagation.numbers_behind_norms import taken_back_by_weights
from fanin.propagation.profile import MOST_PLACES, even
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian, with_powers
from fanin.propagation.tap_pairs import Counts, Line, line, spread, with_bits, without_bits
from fanin.propagation.taps import (
    behind_padding,
    nearness_of_taps,
    to_places,
    window_sums,
)
from fanin.propagation.windows import under_plain

_NAMES = ("convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution",
          "_convolution")  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """How a convolution connects channels and positions.

    Args:
        groups: of channels.
        transposed: whether it is the backward pass of a plain one.
        lines: tap pairs along each spatial axis, of the plain one.
        per_group_in: input channels of a group.
        per_group_out: output channels of a group.
        batched: whether there is an axis of samples.
    """

    groups: int
    transposed: bool
    lines: tuple[Line, ...]
    per_group_in: int
    per_group_out: int
    batched: bool

    @property
    def outputs(self) -> list[Counts]:
        """Tap pairs of output positions."""
        return [ln.backward if self.transposed else ln.forward for ln in self.lines]

    @property
    def inputs(self) -> list[Counts]:
        """Tap pairs of input positions."""
        return [ln.forward if self.transposed else ln.backward for ln in self.lines]

    def with_samples(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape with an axis of samples, of length 1 where there is none."""
        return shape if self.batched else (1, *shape)


def _plan(call: Call, kernel: Kernel, x: Sequence[int], padding: Sequence[int]) -> _Plan:
    """The counts of a convolution of an input of shape ``x``."""
    w, out = kernel.weight.shape, call.shape()
    transposed, groups = bool(call.raw(6)), int(call.raw(8))
    space = len(kernel.taps)
    settings = (kernel.taps, kernel.stride, padding, kernel.dilation)
    sizes, outs = x[len(x) - space :], out[len(out) - space :]
    lines = tuple(
        # A transposed convolution is the backward pass of one from its output to its input.
        line(o, n, k, s, p, d) if transposed else line(n, o, k, s, p, d)
        for n, o, k, s, p, d in zip(sizes, outs, *settings, strict=True)
    )
    if transposed:
        return _Plan(groups, True, lines, w[0] // groups, w[1], len(x) == space + 2)
    return _Plan(groups, False, lines, w[1], w[0] // groups, len(x) == space + 2)


def _bits_of_weight(weight: State, *, output_first: bool) -> Array:
    """Bits (output channel, input channel, *taps), or with the channels the other way round."""
    bits = with_bits(weight.pairs, weight.axes, len(weight.axes))
    return bits if output_first else bits.swapaxes(0, 1)


@forward(*_NAMES)
def convolution(call: Call) -> State:
    """N σ² q times the share of taps that padding leaves."""
    kernel = kernel_of(call)
    weight = kernel.weight
    x, before = behind_padding(call)
    plan = _plan(call, kernel, x.shape, before)
    if weight.mirrored and x.mirrored:
        x = mirrored_input(x)
    rank, shape = len(weight.axes), call.shape()
    w = _bits_of_weight(weight, output_first=not plan.transposed)
    found = spread(with_bits(x.pairs, x.axes, rank), w, plan.outputs, plan.per_group_in)
    taps = prod(counts[0][0] for counts in plan.outputs)
    mean = x.mean * weight.mean * plan.per_group_in * taps
    made = gaussian(plain_axes(shape), mean, without_bits(found, plan.with_samples(shape)))
    made = with_powers(made, _powers(call, kernel, plan, x, taps))
    given = under_plain(call.state(0)), call.nearness(0)
    call.leave_nearness(nearness_of_taps(call, *given, back=False))
    bias = call.optional(2)
    if bias is not None:
        made = added(made, reshaped(bias, (*bias.shape, *(1,) * (rank - 2))))
    mirrored = weight.mirrored and (bias is None or bias.second_moment == 0.0)
    return replace(made.with_flags(x, weight), mirrored=mirrored)


def _powers(call: Call, kernel: Kernel, plan: _Plan, inner: State, taps: float) -> Array | None:
    """Powers of the output place by place: what the taps read, over ``taps`` even valid ones.

    Borders read padding; corners more of it.
    """
    space = len(plan.lines)
    x, weight = call.state(0), kernel.weight
    scale = x.second_moment / inner.second_moment if inner.second_moment > 0 else 1.0
    sizes = x.shape[len(x.shape) - space :]
    padded = any(ln.forward[0][0] != n for ln, n in zip(plan.lines, kernel.taps, strict=True))
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


@backward(*_NAMES)
def convolution_backward(call: Call) -> list[Pass]:
    """The transposed convolution of g; the weight sums g x over samples and positions."""
    x, acting, whole = call.state(0), kernel_of(call), whole_kernel(call)
    plan = _plan(call, acting, x.shape, acting.padding)
    source, weights, bias = (call.tensor(position) for position in range(3))
    passes = []
    if source is not None:
        by_value = None if acting.weight.mirrored else partial(echo, call, 0, 1)
        move = partial(_to_input, call, acting.weight, plan)
        passes.append(
            Pass(
                source,
                move,
                by_value=by_value,
                carry=to_places(call),
                mirrored=acting.weight.mirrored,
                move_near=partial(_to_input_near, call, move),
            )
        )
    if weights is not None:
        # Empty taps have gradients too.
        every = _plan(call, whole, x.shape, whole.padding)
        passes.append(Pass(weights, partial(_to_weight, call, every), carry=forgotten))
    if bias is not None:
        passes.append(Pass(bias, partial(_to_bias, call, plan, bias), carry=forgotten))
    return passes


def _to_input(call: Call, weight: State, plan: _Plan, pairs: Array) -> Array:
    """Pair moments of the input's gradient."""
    made, x = call.made(), call.state(0)
    w = _bits_of_weight(weight, output_first=plan.transposed)
    g = with_bits(pairs, made.axes, len(weight.axes))
    found = spread(g, w, plan.inputs, plan.per_group_out)
    if plan.groups > 1 and plan.per_group_in * plan.groups > 1:
        # Channels of another group are read by other weights.
        apart = [np.stack([np.take(a, 1, k)] * 2, axis=k) for a, k in ((g, 1), (w, 1))]
        other = spread(apart[0], apart[1], plan.inputs, plan.per_group_out)[:, 1]
        near = (plan.per_group_in - 1) / (plan.per_group_in * plan.groups - 1)
        found[:, 1] = near * found[:, 1] + (1 - near) * other
    found = found * taken_back_by_weights(call)
    return fit(without_bits(found, plan.with_samples(x.shape)), plain_axes(x.shape), x.axes)


def _to_input_near(
    call: Call, move: Callable[[Array], Array], pairs: Array, near: Near
) -> tuple[Array, Near]:
    made = call.made()
    plain = fit(pairs, made.axes, plain_axes(made.shape))
    return move(pairs), nearness_of_taps(call, plain, near, back=True)


def _to_weight(call: Call, plan: _Plan, pairs: Array) -> Array:
    """dW[o, i, t] = Σ over samples and positions of g[o] x[i]: sum pairs of both."""
    made, x, weight = call.made(), call.state(0), call.state(1)
    rank = len(weight.axes)
    g, bits = with_bits(pairs, made.axes, rank), with_bits(x.pairs, x.axes, rank)
    samples = made.shape[0] if plan.batched else 1
    product = g[:, :, None] * bits[:, None]  # sample, out, in, *space
    positions = [
        (counts.forward[0][0] / max(taps, 1)) * outs if not plan.transposed else float(sizes)
        for counts, taps, outs, sizes in zip(
            plan.lines, weight.shape[2:], made.shape[2 - rank :], x.shape[2 - rank :], strict=True
        )
    ]
    summed = np.tensordot(np.array([samples, samples * (samples - 1)], float), product, (0, 0))
    for n in positions:
        summed = np.tensordot(summed, np.array([n, n * max(n - 1, 0.0)], float), axes=(2, 0))
    # Other taps read other positions: pairs of taps keep what differing positions share.
    total = np.array(np.broadcast_to(summed.reshape(2, 2, *(1,) * (rank - 2)), (2,) * rank))
    if plan.transposed:
        total = total.swapaxes(0, 1)
    return fit(without_bits(total, weight.shape), plain_axes(weight.shape), weight.axes)


def _to_bias(call: Call, plan: _Plan, bias: int, pairs: Array) -> Array:
    """The sum of g over all but the channels."""
    made, channel = call.made(), 1 if plan.batched else 0
    dims = [i for i in range(len(made.axes)) if i != channel]
    summed = summed_pairs(pairs, made.axes, dims)
    return fit_flat(summed, (made.axes[channel],), call.states[bias].axes)
