"""Isometric starts: closed forms for tanh and sigmoid, and nets that run."""

import math

import pytest
import torch

from fanin.propagation.isometry import isometry


@pytest.mark.parametrize("depth", [30, 1000])
def test_tanh_starts_at_half_the_inverse_depth(depth):
    start = isometry("tanh", depth)
    # E[tanh²(√q z)] = q − 2q² + O(q³): the change per layer is 2q, and q0/(1 + 2Lq0) is left.
    assert start.first == pytest.approx(1 / (2 * depth), rel=0.05)
    assert start.last == pytest.approx(start.first / (1 + 2 * (depth - 1) * start.first), rel=0.02)
    assert (start.mirrored, start.gain) == (False, 1.0)


def test_sigmoid_pairs_are_tanh():
    # σ(x) − σ(−x) = tanh(x/2): half the argument, so four times the second moment, twice the gain.
    sigmoid, tanh = isometry("sigmoid", 100), isometry("tanh", 100)
    assert sigmoid.mirrored
    assert sigmoid.gain == pytest.approx(2 * tanh.gain)
    assert sigmoid.first == pytest.approx(4 * tanh.first, rel=1e-4)
    assert sigmoid.passed == pytest.approx(tanh.passed, rel=1e-4)
    # A unit is ½ ± ψ/2.
    assert sigmoid.features == pytest.approx(0.25 + sigmoid.passed / 4, rel=1e-6)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "softplus", "hardswish"])
def test_linear_pairs_need_no_smallness(name):
    start = isometry(name, 10_000)
    assert (start.linear, start.first, start.last, start.gain) == (True, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "function",
    [torch.abs, torch.cos, torch.square, torch.exp, lambda x: torch.relu(x) ** 2, torch.sinh,
     lambda x: x**3, torch.nn.functional.hardshrink],
    ids=["abs", "cos", "square", "exp", "relu²", "sinh", "cube", "hardshrink"],
)  # fmt: skip
def test_none_for_even_expanding_and_slopeless_functions(function):
    assert isometry(function, 30) is None


@pytest.mark.parametrize("name", ["sigmoid", "elu", "selu", "mish", "hardsigmoid"])
def test_signals_pass_a_mirrored_stack_as_predicted(name):
    depth, half = 40, 256
    start = isometry(name, depth)
    phi = getattr(torch.nn.functional, name)
    torch.manual_seed(0)
    x = math.sqrt(start.first) * torch.randn(64, half, dtype=torch.float64)
    units = torch.cat([phi(x), phi(-x)], 1)
    for _ in range(depth - 1):
        q = torch.linalg.qr(torch.randn(half, half, dtype=torch.float64))[0]
        x = start.gain * (units[:, :half] - units[:, half:]) @ q.T
        units = torch.cat([phi(x), phi(-x)], 1)
    passed = units[:, :half] - units[:, half:]
    # 64·256 numbers: 3 % is over three standard errors of a second moment, √(2/16384) = 1.1 %.
    assert x.square().mean().item() == pytest.approx(start.last, rel=0.05)
    assert passed.square().mean().item() == pytest.approx(start.passed, rel=0.05)
    assert units.square().mean().item() == pytest.approx(start.features, rel=0.05)
