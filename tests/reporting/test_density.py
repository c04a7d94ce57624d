"""Densities from histograms against the values that the histograms were made of."""

import numpy as np
import pytest
from report_samples import histogram
from scipy.stats import gaussian_kde, norm

from fanin.reporting.density import Density, Spike, bandwidth, pool, smooth
from fanin.signals import Histogram


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(1.0, 0.5, 4000)


def test_kde_of_fine_bins_is_the_kde_of_the_values(values):
    density = pool([histogram(values, 2000)], bins=2000)
    h = bandwidth(density)
    x, estimate = smooth(density)
    exact = gaussian_kde(values, bw_method=h / values.std(ddof=1))(x)
    # Bins of width w move each value by at most w/2: a relative change of order (w/h)².
    width = density.edges[1] - density.edges[0]
    assert np.abs(estimate - exact).max() < exact.max() * (width / h) ** 2 + 1e-4


def test_kde_of_coarse_bins_is_near_the_true_density_and_integrates_to_one(values):
    density = pool([histogram(values, 40)])
    x, estimate = smooth(density, points=400)
    assert np.trapezoid(estimate, x) == pytest.approx(1, abs=2e-3)
    assert np.abs(estimate - norm(1.0, 0.5).pdf(x)).max() < 0.06


def test_bandwidth_is_silvermans(values):
    density = pool([histogram(values, 2000)], bins=2000)
    q1, q3 = np.quantile(values, [0.25, 0.75])
    expected = 0.9 * min(values.std(), (q3 - q1) / 1.34) * len(values) ** -0.2
    assert bandwidth(density) == pytest.approx(expected, rel=0.01)


def test_moments_and_quantiles_of_a_density():
    density = Density(np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.5]), 10)
    # Half uniform on (0, 1), half on (1, 3): E = 1.25, E[x²] = (1/3 + 13/3) / 2 = 7/3.
    assert density.mean == 1.25
    assert density.std == pytest.approx((7 / 3 - 1.25**2) ** 0.5)
    assert density.quantile(0.5) == 1.0
    assert list(density.heights) == [0.5, 0.25]


def test_pooling_keeps_the_mass_of_every_seed():
    first = Histogram((0.0, 1.0, 2.0), (10, 30))
    second = Histogram((1.0, 4.0), (20,))
    density = pool([first, second], bins=4)
    assert density.values == 60
    assert density.masses.sum() == pytest.approx(1)
    # Bins of width 1: 10, 30 + 20/3, 20/3, 20/3 values.
    assert list(density.masses * 60) == pytest.approx([10, 30 + 20 / 3, 20 / 3, 20 / 3])


@pytest.mark.parametrize(
    "constant",
    [
        Histogram((0.0, 0.0), (100,)),
        Histogram(tuple(np.linspace(-0.5, 0.5, 11)), (0, 0, 0, 0, 0, 100, 0, 0, 0, 0)),
    ],
)
def test_equal_values_are_a_spike(constant):
    shape = pool([constant, constant])
    assert isinstance(shape, Spike)
    assert shape.values == 200
    assert abs(shape.at) <= 0.0501


def test_no_values_are_no_density():
    assert pool([]) is None
    assert pool([Histogram((0.0, 1.0), (0,))]) is None


def test_a_spike_among_other_values_keeps_its_mass():
    shape = pool([Histogram((0.0, 0.0), (100,)), Histogram((-1.0, 1.0), (100,))], bins=4)
    assert shape.masses.sum() == pytest.approx(1)
    assert max(shape.masses) == pytest.approx(0.5 + 0.125)


def test_mostly_equal_values_still_have_a_bandwidth():
    counts = [0] * 40
    counts[20], counts[0], counts[39] = 980, 10, 10
    density = pool([Histogram(tuple(np.linspace(-1, 1, 41)), tuple(counts))])
    assert bandwidth(density) > 0
    assert np.isfinite(smooth(density)[1]).all()
