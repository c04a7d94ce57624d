"""Gains against closed forms, SciPy's quadrature, and the origin of every constant."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from fanin.errors import SchemeError, UnknownNameError
from fanin.randomness import TruncatedNormalDistribution
from fanin.schemes import gains, spread
from fanin.schemes.gains import activations, gain, second_moment
from fanin.schemes.moments import moments_of, moments_of_cut_normal

NORMAL = stats.norm()

CLOSED_FORMS = {
    "linear": 1.0,
    "relu": 0.5,
    "relu_squared": 1.5,  # E[z⁴]/2
    "abs": 1.0,
    "selu": 1.0,  # that is what its constants were chosen for
    "exp": math.exp(2),
    "sin": (1 - math.exp(-2)) / 2,
    "cos": (1 + math.exp(-2)) / 2,
    "erf": 2 / math.pi * math.asin(2 / 3),  # Williams 1997, the arcsine kernel
    "hardtanh": 1 - 2 * NORMAL.pdf(1),  # E[z²; |z|<1] + P(|z|>1)
    "hardshrink": 2 * (0.5 * NORMAL.pdf(0.5) + NORMAL.sf(0.5)),
    "softshrink": 2 * (NORMAL.sf(0.5) * 1.25 - 0.5 * NORMAL.pdf(0.5)),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    assert second_moment(name) == pytest.approx(CLOSED_FORMS[name], rel=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2, 1.0, -1.0, 3.0])
def test_leaky_relu_is_hes_gain_and_the_quadrature_agrees(slope):
    wanted = math.sqrt(2 / (1 + slope**2))
    assert gain("leaky_relu", {"negative_slope": slope}) == pytest.approx(wanted, rel=1e-15)
    computed = gain(lambda z: torch.where(z > 0, z, slope * z))
    assert computed == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("name", [name for name in activations() if name != "threshold"])
def test_every_activation_against_scipy(name):
    def integrand(z):
        value = gains._ACTIVATIONS[name](torch.tensor(z, dtype=torch.float64))
        return float(value) ** 2 * NORMAL.pdf(z)

    kinks = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0]
    pieces = zip([-12.0, *kinks], [*kinks, 12.0], strict=True)
    wanted = sum(integrate.quad(integrand, a, b, epsabs=1e-11)[0] for a, b in pieces)
    assert second_moment(name) == pytest.approx(wanted, rel=1e-7)


def test_the_published_table():
    published = {"gelu": 1.5335, "silu": 1.6765, "mish": 1.4869, "hardswish": 1.7367}
    published |= {"elu": 1.2452, "softplus": 1.0419, "sigmoid": 1.8462, "tanh": 1.5925}
    for name, value in published.items():
        assert gain(name) == pytest.approx(value, abs=1.01e-4)


def test_callables_modules_and_jumps():
    assert gain(torch.relu) == pytest.approx(math.sqrt(2), rel=1e-10)
    assert gain(torch.nn.PReLU(init=0.25)) == pytest.approx(math.sqrt(2 / 1.0625), rel=1e-7)
    dropout = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(0.5))
    assert gain(dropout) == pytest.approx(math.sqrt(2), rel=1e-10)
    assert dropout.training
    # A jump at a place that no grid has.
    step = gain(lambda z: (z > 0.3217).double())
    assert step == pytest.approx(1 / math.sqrt(NORMAL.sf(0.3217)), rel=1e-8)
    with_parameters = gain("threshold", {"threshold": 0.5, "value": 0.0})
    assert with_parameters == pytest.approx(gain(lambda z: z * (z > 0.5)), rel=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z * 0,
        lambda z: z * float("nan"),
        lambda z: z.sum(),
        lambda z: torch.exp(z * z),
        lambda: 1,
    ],
)
def test_functions_without_a_gain(function):
    with pytest.raises(SchemeError, match=r"\.$"):
        gain(function)


def test_unknown_activation():
    with pytest.raises(UnknownNameError, match="relu"):
        gain("rleu")
    with pytest.raises(SchemeError):
        gain("relu6", {"negative_slope": 0.1})


def test_constants_have_their_origin():
    nodes, weights = np.polynomial.legendre.leggauss(4)
    np.testing.assert_allclose(gains._LEGENDRE_4, (nodes, weights), rtol=1e-14)
    cut = stats.truncnorm(-2, 2).std()
    assert pytest.approx(cut, rel=1e-12) == spread.STD_OF_UNIT_NORMAL_CUT_AT_2


@pytest.mark.parametrize(
    ("low", "high"), [(-2, 2), (-1, 3), (0.5, 0.6), (3, 4), (-8, -6), (5, 30), (-30, 30)]
)
def test_moments_of_cut_normals_against_scipy(low, high):
    mean, std = moments_of_cut_normal(low, high)
    reference = stats.truncnorm(low, high)
    assert mean == pytest.approx(reference.mean(), rel=1e-6, abs=1e-9)
    assert std == pytest.approx(reference.std(), rel=1e-5)


def test_moments_far_in_the_tail():
    # There the distribution is an exponential: mean low + 1/low, std 1/low, to order 1/low³.
    mean, std = moments_of_cut_normal(100.0, math.inf)
    assert mean == pytest.approx(100.01, abs=3e-6)
    assert std == pytest.approx(0.01, rel=1e-3)
    moments = moments_of(TruncatedNormalDistribution(1.0, 2.0, 201.0, 300.0))
    assert moments.mean == pytest.approx(1 + 2 * 100.01, abs=1e-5)
