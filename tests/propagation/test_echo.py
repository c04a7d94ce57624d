"""What a number's own size has to do with its gradient, against draws of the whole net.

Channels times draws are some thousand independent kernels: a mean square over them is off by 2 to
3 %, more where a norm divides by the power of eight numbers.
"""

import numpy as np
import pytest
import torch
from building_blocks import Module
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin


def depthwise(first, second, channels=96, padding=0, kernel=3):
    """Norm, activation, depthwise kernel, norm, activation, head."""
    conv = nn.Conv2d(channels, channels, kernel, groups=channels, padding=padding, bias=False)

    def run(m, x):
        return m.head(second(m.after(m.kernel(first(m.before(m.enter(x)))))))

    return Module(
        run, enter=nn.Conv2d(channels, channels, 1, bias=False), kernel=conv,
        before=nn.BatchNorm2d(channels), after=nn.BatchNorm2d(channels),
        head=nn.Conv2d(channels, channels, 1, bias=False),
    )  # fmt: skip


def ratios(model, inputs, draws):
    """Predicted over measured gradient RMS of convolutions and norms, in running order."""
    plan = fanin.plan(model, inputs, "he_normal")
    named = ("convolution", "native_batch_norm", "mm", "constant_pad_nd")

    def gradients(signals):
        return np.array([s.gradient_rms for s in signals.tensors.values()
                         if s.operation in named and s.gradient_rms and s.rms])  # fmt: skip

    squares = []
    for seed in range(draws):
        fanin.apply(plan, model, seed=seed)
        squares.append(gradients(fanin.measure(model, inputs)) ** 2)
    return gradients(fanin.predict(model, inputs, plan)) / np.sqrt(np.mean(squares, 0))


@pytest.mark.parametrize("act", [F.silu, F.gelu, F.hardswish], ids=["silu", "gelu", "hardswish"])
def test_large_numbers_open_their_own_gates(act):
    """A kernel's largest weight holds a third of what it reads; without the law: 4 % too little."""
    torch.manual_seed(0)
    found = ratios(depthwise(act, act), torch.randn(6, 96, 5, 5), draws=24)
    assert np.allclose(found, 1, atol=0.025)


@pytest.mark.parametrize("first", [torch.relu, F.silu], ids=["relu", "silu"])
def test_a_channel_whose_part_along_itself_is_gone(first):
    """Of eight numbers the second norm has left six directions: the first one takes two, not three.

    Taken off once more, the gradient of the first layer is a seventh too small.
    """
    torch.manual_seed(1)
    model = depthwise(first, torch.relu, padding=1)
    found = ratios(model, torch.randn(2, 96, 2, 2), draws=100)
    assert np.allclose(found, 1, atol=0.08)


def test_through_a_border_of_zeros():
    """Zeros put round a map before the kernel change nothing of it."""
    torch.manual_seed(2)
    bare = depthwise(F.silu, F.silu, channels=48, padding=1)
    padded = depthwise(F.silu, F.silu, channels=48)
    plain = padded.kernel
    padded.kernel = nn.Sequential(nn.ConstantPad2d(1, 0.0), plain)
    inputs = torch.randn(4, 48, 5, 5)
    first = [
        next(s.gradient_rms for s in fanin.predict(m, inputs, fanin.plan(m, inputs, "he_normal"))
             .tensors.values() if s.operation == "convolution")
        for m in (bare, padded)
    ]  # fmt: skip
    assert first[0] == pytest.approx(first[1], rel=0.01)


def test_wide_layers_have_no_echo(monkeypatch):
    model = nn.Sequential(nn.Linear(2000, 2000), nn.GELU(), nn.Linear(2000, 2000), nn.GELU(),
                          nn.Linear(2000, 10))  # fmt: skip
    inputs = torch.zeros(4, 2000, device="meta")
    plan = fanin.plan(model.to("meta"), inputs, "he_normal")
    here = fanin.predict(model, inputs, plan).layers[0].gradient_rms
    monkeypatch.setattr("fanin.propagation.families.linear.echo", lambda *_: None)
    without = fanin.predict(model, inputs, plan).layers[0].gradient_rms
    assert here == pytest.approx(without, rel=1e-3)
    assert here != without
