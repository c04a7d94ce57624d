"""Norms that divide by what few numbers or few weights make, against sampling and autograd.

A mean square over m independent numbers is off by √(κ/m) with the kurtosis κ of what is averaged;
gradients divided by small powers have heavy tails, and their tolerances are wider for it.
"""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch
from checks import assert_predicted, predicted_and_measured
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation import numbers_behind_norms
from fanin.propagation.cotangent import direction, pairs_of_direction
from fanin.propagation.data_moments import pair_moments_of
from fanin.propagation.norm_power import NormPower, chi_square
from fanin.propagation.normalised_values import normalised_values
from fanin.propagation.quadrature import WEIGHTS
from fanin.propagation.taps import inverse_taps_of_places

CHANNELS = 200_000


def conv(inputs, outputs, kernel=1, groups=1, **settings):
    layer = nn.Conv2d(inputs, outputs, kernel, groups=groups, bias=False, **settings)
    nn.init.normal_(layer.weight, std=(2 / layer.weight[0].numel()) ** 0.5)
    return layer


def head(inputs, outputs=64):
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer


@pytest.mark.parametrize("weighted", [False, True], ids=["numbers", "one weight"])
@pytest.mark.parametrize("samples", [2, 3, 4, 8])
def test_a_batch_norm_over_few_samples(samples, weighted):
    generator = torch.Generator().manual_seed(samples)
    x = torch.randn(samples, CHANNELS, generator=generator)
    w = torch.randn(CHANNELS, generator=generator) if weighted else torch.ones(CHANNELS)
    g = torch.randn(samples, CHANNELS, generator=generator)
    x = (0.3 * x * w).requires_grad_()
    y = F.batch_norm(x, None, None, training=True, eps=1e-3)
    y.backward(g)
    share = 1 - 1 / samples
    power = NormPower(0.09 * share, 1e-3, 2 / (samples - 1), 2.0 if weighted else 0.0)
    beta, inverse, _, _ = power.expected()
    variance = x.detach().var(0, correction=0)
    assert beta == pytest.approx(float(y.detach().square().mean()), rel=0.01)
    assert inverse == pytest.approx(float((1 / (variance + 1e-3)).mean()), rel=0.02)
    assert power.through() * share == pytest.approx(float(x.grad.square().mean()), rel=0.04)
    back = float((x.grad * w).square().mean())
    assert power.through(weighted) * share == pytest.approx(back, rel=0.06)


def test_means_of_squares_have_their_mean_and_variance():
    for variance in (2.0, 0.5, 0.02):
        x, mass = chi_square(variance)
        assert mass @ x == pytest.approx(1.0)
        assert mass @ (x - 1) ** 2 == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("samples", [2, 3, 4, 6])
def test_numbers_behind_a_norm_are_bounded(samples):
    x = torch.randn(samples, CHANNELS, generator=torch.Generator().manual_seed(1))
    y = F.batch_norm(x, None, None, training=True, eps=1e-12)
    values = normalised_values(2 / (samples - 1), 0.0)
    for power in (1, 4):
        truth = float(y.abs().pow(power).mean())
        assert WEIGHTS @ np.abs(values) ** power == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU])
@pytest.mark.parametrize("samples", [2, 8])
def test_behind_a_mean_over_positions_gradients_lie_along_the_norms_output(activation, samples):
    # φ′(z) ≈ a + b z: a mean over positions sends the same to all, and a norm takes both off.
    assert_predicted(
        lambda: nn.Sequential(
            conv(64, 256), nn.BatchNorm2d(256), activation(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), head(256),
        ),
        batch(samples, 64, 2, 2), draws=12, forward=0.1,
    )  # fmt: skip


@pytest.mark.parametrize("explicit", [False, True], ids=["padding", "padded before"])
def test_depthwise_stacks_on_small_maps(explicit):
    def build():
        depthwise = [conv(256, 256, 3, 256, padding=0 if explicit else 1)]
        padded = [nn.ZeroPad2d(1), *depthwise] if explicit else depthwise
        return nn.Sequential(
            conv(256, 256), nn.BatchNorm2d(256), nn.ReLU(),
            *padded, nn.BatchNorm2d(256), nn.ReLU(),
            conv(256, 256), nn.BatchNorm2d(256), nn.ReLU(), nn.Flatten(), head(1024),
        )  # fmt: skip

    assert_predicted(build, batch(8, 256, 2, 2), draws=12, backward=0.07)


def test_padding_put_round_before_is_padding():
    torch.manual_seed(0)
    parts = [conv(64, 64), nn.BatchNorm2d(64), nn.ReLU()]
    depthwise = [conv(64, 64, 3, 64) for _ in range(2)]
    nets = []
    for explicit in (True, False):
        net = list(parts)
        for layer in depthwise:
            own = conv(64, 64, 3, 64, padding=0 if explicit else 1)
            own.weight = layer.weight
            net += [nn.ZeroPad2d(1), own] if explicit else [own]
            net += [nn.BatchNorm2d(64), nn.ReLU()]
        nets.append(nn.Sequential(*net, nn.AvgPool2d(2)))
    seen = [
        [(s.rms, s.correlation) for _, s in sorted(signals.tensors.items())
         if s.operation in ("convolution", "native_batch_norm", "avg_pool2d") and len(s.shape) == 4]
        for signals in (fanin.predict(net, batch(8, 64, 2, 2)) for net in nets)
    ]  # fmt: skip
    assert len(seen[0]) == 7
    for one, two in zip(*seen, strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-9)


def test_one_weight_a_channel():
    # 3×3 taps on one place: the eight others read padding.
    def build():
        return nn.Sequential(
            conv(64, 256), nn.BatchNorm2d(256, eps=1e-3), nn.ReLU6(),
            conv(256, 256, 3, 256, padding=1), nn.BatchNorm2d(256, eps=1e-3), nn.ReLU6(),
            nn.Flatten(), head(256),
        )  # fmt: skip

    assert_predicted(build, batch(16, 64, 1, 1), draws=16, backward=0.15, forward=0.06)


def test_channels_of_a_depthwise_convolution_receive_gradients_of_their_own():
    # Were they one gradient, the norm over channels before it would take it off.
    def run(m, x):
        x = F.layer_norm(m.a(x).permute(0, 2, 3, 1), (64,)).permute(0, 3, 1, 2)
        return m.b(x)

    assert_predicted(
        lambda: Module(run, a=conv(64, 64), b=conv(64, 64, 3, 64)), batch(16, 64, 6, 6), draws=12
    )


def test_taps_of_a_place():
    net = conv(512, 512, 3, 512, padding=1)
    found = []
    rule = numbers_behind_norms.inverse_taps_of_places
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            numbers_behind_norms,
            "inverse_taps_of_places",
            lambda call: found.append(rule(call)) or found[-1],
        )
        fanin.predict(nn.Sequential(net, nn.BatchNorm2d(512)), batch(4, 512, 3, 3))
    assert inverse_taps_of_places is rule
    # Four corners with 4 taps, four sides with 6, one middle with 9.
    assert found[0] == pytest.approx((4 / 4 + 4 / 6 + 1 / 9) / 9)


def test_the_direction_of_a_small_output_is_known():
    shape = (2, 3)
    pairs = pairs_of_direction(((2,), (3,)))
    assert pairs == pytest.approx(pair_moments_of(direction(shape).double().numpy()))
    assert pairs[0, 0] == pytest.approx(1.0)
    # Two samples: what their gradients share is lost in the batch norm.
    rows = predicted_and_measured(
        lambda: nn.Sequential(conv(64, 512), nn.BatchNorm2d(512), nn.Flatten(), head(2048, 2)),
        batch(2, 64, 2, 2), draws=24,
    )  # fmt: skip
    ((gradient, truth),) = [row[3:] for row in rows if row[0].operation == "convolution"]
    assert gradient == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("copies", [3, 12])
def test_copies_of_one_channel_count_as_one_weight(copies):
    # Σ w over copies is one number for each of 4 taps: 1/s² of 4 has twice the mean of 1/s̄².
    def build():
        def run(m, x):
            return m.b(m.norm(m.a(F.elu(x.repeat(1, copies, 1, 1)))).relu())

        a, b = nn.Conv2d(copies, 96, 2, 2, bias=False), nn.Conv2d(96, 32, 1, bias=False)
        nn.init.normal_(a.weight, std=(4 * copies) ** -0.5)
        nn.init.normal_(b.weight, std=96**-0.5)
        return Module(run, a=a, b=b, norm=nn.BatchNorm2d(96))

    rows = predicted_and_measured(build, batch(12, 1, 12, 12), draws=24)
    made = next(r for r in rows if r[0].operation == "convolution")
    # 1/χ² of 4 has no variance: 24 draws of 96 channels know its root to 5 %.
    assert made[3] == pytest.approx(made[4], rel=0.2)
