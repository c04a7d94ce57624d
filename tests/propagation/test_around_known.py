"""Functions of a sum with values that are known, against running them with weights redrawn."""

import math

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import predicted_and_measured
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin


def steps():
    """Biases of a state space's time steps: softplus(b) is log-uniform from 0.001 to 0.1."""
    at = torch.linspace(0, 1, N, dtype=torch.float64)
    dt = torch.exp(at * torch.log(torch.tensor(100.0)) + torch.log(torch.tensor(1e-3)))
    return torch.log(torch.expm1(dt)).float()[torch.randperm(N, generator=torch.manual_seed(3))]


def build():
    m = Module(lambda m, x: m.b(F.softplus(m.a(x) + m.bias)), a=dense(), b=dense())
    m.bias = nn.Parameter(steps())
    return m


def test_softplus_of_a_sum_with_a_kept_bias():
    rows = predicted_and_measured(build, batch(16, 6, N))
    ((_, rms, truth, gradient, gradient_truth),) = [r for r in rows if r[0].operation == "softplus"]
    # As a Gaussian about −4.6 whose power differs from place to place it would be 0.6 of this.
    assert rms == pytest.approx(truth, rel=0.04)
    assert gradient == pytest.approx(gradient_truth, rel=0.05)
    last = next(r for r in rows if r[0].operation == "mm")
    assert last[3] == pytest.approx(last[4], rel=0.08)


def test_two_samples_share_what_is_known():
    torch.manual_seed(0)
    m, x = build(), batch(64, N)
    (found,) = [s for s in fanin.predict(m, x).tensors.values() if s.operation == "softplus"]
    y = F.softplus(m.a(x) + m.bias).detach().double()
    cosines = y @ y.T / y.square().sum(1).mean()
    truth = float((cosines.sum() - cosines.trace()) / 64 / 63)
    assert found.correlation == pytest.approx(truth, rel=0.06)
    assert found.mean == pytest.approx(float(y.mean()), rel=0.04)


def test_many_distinct_values_are_joined():
    values = torch.linspace(2.0, 3.0, 4 * N)
    m = Module(lambda m, x: (0.3 * m.a(x) + m.known).exp(), a=dense(N, 4 * N))
    m.known = nn.Parameter(values)
    (found,) = [s for s in fanin.predict(m, batch(8, N)).tensors.values() if s.operation == "exp"]
    # E[e^(2b + 2·0.3 z)] = e^0.18 E[e^2b]
    truth = float((2 * values.double()).exp().mean()) ** 0.5 * math.exp(0.09)
    assert found.rms == pytest.approx(truth, rel=0.03)
