"""Mean-field numbers against closed forms, independent quadrature and simulation."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch.nn import functional as F  # noqa: N812

from fanin.propagation import stability

# φ, mean at N(0, 1), E[φ²], gain, χ1, Q′(1); published to three or four digits.
TABLE = [
    ("relu", 0.3989, 0.5000, 1.4142, 1.000, 1.000),
    ("leaky_relu_0.2", 0.3192, 0.5200, 1.3868, 1.000, 1.000),
    ("gelu", 0.2821, 0.4252, 1.5335, 1.072, 1.144),
    ("silu", 0.2066, 0.3558, 1.6765, 1.067, 1.173),
    ("mish", 0.2404, 0.4523, 1.4869, 1.059, 1.076),
    ("hardswish", 0.1662, 0.3316, 1.7367, 1.081, 1.224),
    ("elu", 0.1605, 0.6450, 1.2452, 1.036, 0.891),
    ("selu", 0.0, 1.0000, 1.0000, 1.072, 0.783),
    ("softplus", 0.8061, 0.9213, 1.0419, 0.318, 0.492),
    ("sigmoid", 0.5, 0.2934, 1.8462, 0.153, 0.106),
    ("tanh", 0.0, 0.3943, 1.5925, 1.178, 0.461),
    ("hardtanh", 0.0, 0.5161, 1.3920, 1.323, 0.385),
    ("relu_squared", 0.5, 1.5, 0.8165, 1.333, 2.0),
]
FUNCTIONS = {"leaky_relu_0.2": lambda x: F.leaky_relu(x, 0.2)}


def function(name):
    return stability.resolved(FUNCTIONS.get(name, name))


@pytest.mark.parametrize(("name", "mean", "second", "gain", "chi1", "slope"), TABLE)
def test_table_of_activations(name, mean, second, gain, chi1, slope):
    point = stability.at_second_moment(function(name))
    assert stability.second_moment(function(name), 1.0) == pytest.approx(second, abs=6e-5)
    assert point.gain == pytest.approx(gain, abs=6e-5)
    assert point.chi1 == pytest.approx(chi1, abs=6e-4)
    assert point.variance_slope == pytest.approx(slope, abs=6e-4)


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "tanh", "softplus", "sigmoid"])
def test_smooth_functions_agree_with_gauss_hermite(name):
    # 200 Gauss–Hermite nodes are exact to rounding for analytic functions: another rule entirely.
    nodes, weights = hermegauss(200)
    x = torch.from_numpy(nodes).requires_grad_()
    values = function(name)(x)
    (slopes,) = torch.autograd.grad(values.sum(), x)
    w = weights / weights.sum()
    second = w @ values.detach().numpy() ** 2
    point = stability.at_second_moment(name)
    assert point.gain == pytest.approx(second**-0.5, rel=1e-7)
    assert point.chi1 == pytest.approx(w @ slopes.numpy() ** 2 / second, rel=1e-7)


def test_variance_slope_is_the_derivative_of_the_variance_map():
    for name in ("gelu", "tanh", "elu"):
        point = stability.at_second_moment(name, 0.7)
        h = 1e-4
        up, down = (
            point.gain**2 * stability.second_moment(function(name), 0.7 + s) for s in (h, -h)
        )
        assert point.variance_slope == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_pytorchs_tanh_gain_is_chaotic():
    point = stability.at_gain("tanh", 5 / 3)
    assert point is not None
    assert (point.q, point.chi1) == (pytest.approx(1.179, abs=1e-3), pytest.approx(1.210, abs=1e-3))
    # 100 layers then multiply the gradient's RMS by χ1^50, 1.4e4.
    assert point.chi1**50 > 1e4


def test_gain_below_the_critical_one_vanishes():
    assert stability.at_gain("tanh", 0.5) is None
    assert stability.at_gain("relu", 1.0) is None


def test_instability_counts_growth_and_not_decay_of_errors():
    gelu, tanh = (stability.at_second_moment(n) for n in ("gelu", "tanh"))
    assert gelu.instability(100) == pytest.approx(100 * math.log(1.144), rel=5e-3)
    assert tanh.instability(10) == pytest.approx(10 * math.log(1.178), rel=1e-2)
    assert stability.at_second_moment("relu").instability(1000) < 1e-2


def test_stablest_gain_is_better_than_unit_variance_and_relu_keeps_its_own():
    assert stability.stablest("relu", 100).gain == pytest.approx(math.sqrt(2), rel=1e-4)
    for name in ("tanh", "elu", "gelu", "selu"):
        best, unit = stability.stablest(name, 50), stability.at_second_moment(name)
        assert best.instability(50) < unit.instability(50)


def test_critical_gain_of_tanh_is_one_at_small_signals():
    point = stability.critical_gain("tanh")
    assert point is not None
    assert point.gain == pytest.approx(1.0, abs=1e-4)
    assert point.q < 1e-3


def test_critical_gain_solves_chi_one_for_a_shifted_function():
    # elu's χ1 crosses 1 at some q: the gain found there must reproduce its own fixed point.
    point = stability.critical_gain("elu")
    if point is not None and point.q > 0:
        assert point.chi1 == pytest.approx(1.0, abs=1e-6)
        settled = stability.at_gain("elu", point.gain, start=point.q)
        assert settled is not None
        assert settled.q == pytest.approx(point.q, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "c"),
    [("relu", 1.0), ("gelu", 1.0), ("gelu_tanh", 1.0), ("silu", 1.0), ("quick_gelu", 1.0),
     ("hardswish", 1.0), ("softplus", 1.0), ("logsigmoid", 1.0), ("leaky_relu_0.2", 1.2)],
)  # fmt: skip
def test_functions_whose_odd_part_is_linear(name, c):
    assert stability.odd_slope(function(name)) == pytest.approx(c, abs=1e-4)


@pytest.mark.parametrize("name", ["mish", "elu", "selu", "tanh", "sigmoid", "relu_squared", "abs"])
def test_functions_whose_odd_part_is_not_linear(name):
    assert stability.odd_slope(function(name)) is None


def test_a_mirrored_net_of_100_gelu_layers_is_an_orthogonal_map():
    # The claim behind odd_slope, in plain torch: norms are kept exactly, whatever the depth.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 16, generator=generator, dtype=torch.float64)
    h = torch.cat([x, -x], 1)
    for _ in range(100):
        q, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))
        w = torch.cat([torch.cat([q, -q], 1), torch.cat([-q, q], 1)])
        h = F.gelu(h) @ w.T
    assert torch.allclose(h[:, :16].norm(dim=1), x.norm(dim=1), rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "expected"), [("tanh", 1.0), ("erf", math.sqrt(math.pi) / 2), ("softsign", 1.0),
                           ("sin", 1.0), ("hardtanh", 1.0), ("relu", None), ("softplus", None),
                           ("sigmoid", None), ("gelu", 2.0)]
)  # fmt: skip
def test_orthogonal_gain(name, expected):
    found = stability.orthogonal_gain(name)
    assert found is None if expected is None else found == pytest.approx(expected, rel=1e-4)


def test_parity():
    assert stability.is_odd("tanh")
    assert not stability.is_odd("gelu")


@pytest.mark.parametrize("c", [-0.9, 0.0, 0.3, 0.9, 0.99, 1.0])
def test_correlation_map_of_relu_is_the_arc_cosine_kernel(c):
    exact = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
    assert stability.correlation_map("relu", c) == pytest.approx(exact, abs=2e-4)


def test_finite_width_tolerance_against_simulation():
    depth, width, nets = 20, 64, 400
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(nets, width, generator=generator)
    h *= (width / h.square().sum(1, keepdim=True)).sqrt()
    for _ in range(depth):
        w = torch.randn(nets, width, width, generator=generator) * (2 / width) ** 0.5
        h = (w @ h.relu().unsqueeze(-1)).squeeze(-1)
    logs = h.square().mean(1).log().numpy()
    mean, std = stability.width_fluctuation(depth, width)
    # The formula is a large-width limit: 10 % of its own size, and 4 standard errors of the mean.
    assert np.mean(logs) == pytest.approx(mean, abs=4 * std / nets**0.5 + 0.1 * abs(mean))
    assert np.std(logs) == pytest.approx(std, rel=0.15)


def test_unknown_activation_names_the_nearest():
    from fanin.errors import UnknownNameError

    with pytest.raises(UnknownNameError, match="gelu"):
        stability.at_second_moment("gelu_tahn")
