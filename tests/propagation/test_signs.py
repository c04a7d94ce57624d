"""Running sums of one sign, and masks under an exponential: decays never exceed 1."""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import predicted_and_measured
from torch import nn
from torch.nn import functional as F  # noqa: N812


def rows(build, *names):
    found = predicted_and_measured(build, batch(16, 8, N))
    return {row[0].operation: row[1:] for row in found if row[0].operation in names}


def test_running_sums_have_the_power_of_their_terms():
    def run(m, x):
        return m.b(m.a(x).relu().cumsum(1))

    found = rows(lambda: Module(run, a=dense(), b=dense()), "cumsum", "relu")
    rms, truth, gradient, gradient_truth = found["cumsum"]
    assert rms == pytest.approx(truth, rel=0.04)
    assert gradient == pytest.approx(gradient_truth, rel=0.06)
    assert found["relu"][2] == pytest.approx(found["relu"][3], rel=0.06)


def decays():
    # Rates from 1 to 8 over the heads, as state spaces have them: spreads far above the mean.
    def run(m, x):
        return m.b((-F.softplus(m.a(x) - 2) * m.rates).cumsum(1).exp())

    m = Module(run, a=dense(), b=dense())
    m.rates = nn.Parameter(torch.linspace(1, 8, N))
    return m


def test_decays_stay_below_one():
    rms, truth, *_ = rows(decays, "exp")["exp"]
    # The shape of their sums' distribution is an approximation: a Gaussian one gives 10¹⁰.
    assert rms == pytest.approx(truth, rel=0.25)


def test_the_exponential_of_a_mask_is_zero():
    hidden = torch.ones(8, 8).tril() == 0

    def run(m, x):
        scores = m.a(x) @ m.b(x).transpose(1, 2) / N
        return m.c(scores.masked_fill(hidden, float("-inf")).exp() @ x)

    build = lambda: Module(run, a=dense(), b=dense(), c=dense())  # noqa: E731
    rms, truth, *_ = rows(build, "exp")["exp"]
    assert rms == pytest.approx(truth, rel=0.05)
