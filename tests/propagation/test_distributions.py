"""Distributions of sums and behind norms, and of lengths, against sampling."""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch
from checks import assert_predicted
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

import fanin
from fanin.propagation.distributions import (
    in_order,
    is_gaussian,
    of_sum,
    standardised,
    within_channels,
)
from fanin.propagation.quadrature import NODES, WEIGHTS, expectation
from fanin.propagation.singular_values import largest_singular_value


def skew(values):
    return expectation(values**3)


def test_what_is_gaussian():
    assert is_gaussian(2 * NODES - 1)
    assert not is_gaussian(np.maximum(NODES, 0))
    assert is_gaussian(np.zeros_like(NODES))


def test_third_moments_of_independent_numbers_add():
    one, two = np.maximum(NODES, 0), 0.5 * NODES**2
    found = of_sum(one, two)
    assert abs(expectation(found)) < 1e-9
    assert np.isclose(expectation(found**2), 1.0)
    centred = [v - expectation(v) for v in (one, two)]
    third = sum(expectation(v**3) for v in centred)
    variance = sum(expectation(v**2) for v in centred)
    assert np.isclose(skew(found), third / variance**1.5, rtol=0.03)
    assert np.all(np.diff(found) >= 0)


@pytest.mark.parametrize("shared", [0.0, 0.3, 0.8])
def test_channels_freed_of_their_own_mean(shared):
    generator = np.random.default_rng(0)
    common, own = generator.normal(size=(3000, 1)), generator.normal(size=(3000, 1500))
    x = np.maximum(shared**0.5 * common + (1 - shared) ** 0.5 * own + 0.4, 0)
    lively = x.std(1) > 1e-9
    z = (x[lively] - x[lively].mean(1, keepdims=True)) / x[lively].std(1, keepdims=True)
    found = within_channels(np.maximum(NODES + 0.4, 0), shared)
    # Half of the power above 0 is what a ReLU passes of a Gaussian.
    above, truth = expectation(np.maximum(found, 0) ** 2), np.mean(np.maximum(z, 0) ** 2)
    assert abs(above - truth) < 0.03
    assert above > 0.52


def test_in_order_is_increasing_and_keeps_moments():
    found = in_order(NODES**2, WEIGHTS)
    assert np.all(np.diff(found) >= 0)
    assert np.isclose(expectation(found), 1.0, rtol=0.01)


@pytest.mark.parametrize("scale", [0.3, 2, 19, 305.9, 306.4, 700])
@pytest.mark.parametrize("empty", [0, 5], ids=["even", "padded"])
def test_sines_of_large_numbers(scale, empty):
    """E[sin² h] = (1 − e^(−2σ²))/2. At 306 rad of std a step of the quadrature is half a turn."""

    def run(m, x):
        h = scale * m.a(F.pad(x, (0, 0, 0, empty)))
        return torch.sin(h)

    model, x = Module(run, a=nn.Linear(300, 40, bias=False)), batch(7, 3 + empty, 300)
    signals = fanin.predict(model, x, fanin.plan(model, x, "lecun_normal")).tensors.values()
    before, after = (next(s.rms**2 for s in signals if s.operation == name)
                     for name in ("mul", "sin"))  # fmt: skip
    filled = (3 + empty) / (3 + 2 * empty)
    expected = filled * (1 - np.exp(-2 * before / filled)) / 2
    assert after == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("width", [0.5, 2, 5, 19])
def test_sines_of_sums_of_uniform_numbers(width):
    """E[sin²] of k numbers of U(−a, a) is (1 − (sin 2a / 2a)^k)/2."""
    uniform = 2 * (np.cumsum(WEIGHTS) - WEIGHTS / 2) - 1
    sums = width * (2 / 3) ** 0.5 * of_sum(uniform, uniform)
    assert expectation(np.sin(sums) ** 2) == pytest.approx(
        (1 - (np.sin(2 * width) / (2 * width)) ** 2) / 2, rel=0.005
    )
    # A sign added to normal numbers moves them apart; it does not make steps of them.
    both = width * of_sum(3 * NODES, np.sign(NODES))
    for stretch in (1.0, 1.3):
        there = np.interp(stretch * both, both, np.sin(both))
        angle = 2 * stretch * width
        wave = np.exp(-(angle**2) * 0.9 / 2) * np.cos(angle * 0.1**0.5)
        assert expectation(there**2) == pytest.approx((1 - wave) / 2, rel=0.01)


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_rectified_streams_stay_skewed(norm):
    """ReLU(norm(r + conv)) passes more than half of the power: r is rectified.

    0.73 to 0.74 where a normal number gives 0.707; the RMS of 12 draws of 38,400 numbers is known
    to 0.3 %.
    """
    norms = {
        "batch": lambda: nn.BatchNorm2d(48),
        "group": lambda: nn.GroupNorm(4, 48),
        "layer": lambda: nn.LayerNorm([48, 10, 10]),
    }

    def run(m, x):
        stream = F.relu(m.n0(m.a(x)))
        return F.relu(m.n1(stream + m.b(stream)))

    def build():
        def conv(inputs):
            return nn.Conv2d(inputs, 48, 3, padding=1, bias=False)

        return Module(run, a=conv(12), b=conv(48), n0=nn.BatchNorm2d(48), n1=norms[norm]())

    assert_predicted(build, batch(8, 12, 10, 10), forward=0.025, draws=12, recipe="he_normal")


@pytest.mark.parametrize("many", [1, 4, 100, 2000])
def test_sums_are_normal_once_a_relu_cannot_tell(many):
    """Σ of k exponential numbers has skewness 2/√k; a ReLU passes ½ + 0.133·2/√k of its power."""
    generator = np.random.default_rng(0)
    drawn = np.sort(generator.gamma(many, size=200_000))
    values = standardised(np.interp(np.cumsum(WEIGHTS), np.linspace(0, 1, len(drawn)), drawn))
    passed = expectation(np.maximum(values, 0) ** 2)
    assert is_gaussian(values) == (abs(passed / 0.5 - 1) < 0.02) == (many == 2000)


@pytest.mark.parametrize("shape", [(8, 48), (16, 16), (3, 200), (1, 60)])
def test_largest_singular_values(shape):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(600, *shape, generator=generator, dtype=torch.float64)
    values = torch.linalg.matrix_norm(drawn, ord=2)
    mean, std = largest_singular_value(*shape)
    assert abs(mean / float(values.mean()) - 1) < 0.02
    assert abs(std / float(values.std()) - 1) < 0.25


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm"])
def test_weights_computed_from_what_the_plan_draws(wrap):
    """The plan's draw counts, not the lengths and largest values that stood there before."""

    def build():
        norm = getattr(parametrizations, wrap)
        return nn.Sequential(norm(nn.Linear(40, 96)), nn.Tanh(), norm(nn.Linear(96, 64)))

    torch.manual_seed(0)
    model, inputs = build(), batch(32, 40)
    plan = fanin.plan(model, inputs, "he_normal")

    def powers(signals):
        return [s.rms**2 for s in signals.tensors.values() if s.operation == "addmm"]

    squares = []
    for seed in range(20):
        fanin.apply(plan, model, seed=seed)
        squares.append(powers(fanin.measure(model, inputs)))
    predicted = powers(fanin.predict(model, inputs, plan))
    assert np.allclose(predicted, np.mean(squares, axis=0), rtol=0.08)
