"""Moments, cosines and histograms against float64 and brute force."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.measuring.histogram_bins import BINS, histogram
from fanin.measuring.statistics import (
    mean_cosine,
    mean_cosine_of_positions,
    moments,
    root_mean_square,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_moments_agree_with_float64(dtype):
    values = (torch.randn(40, 50, generator=torch.Generator().manual_seed(1)) * 2 + 0.5).to(dtype)
    values[0, :10] = 0
    exact = values.numpy(force=True) if dtype == torch.float64 else values.float().numpy()
    exact = exact.astype(np.float64)
    found = moments(values)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-5)
    assert found.rms == pytest.approx(np.sqrt((exact**2).mean()), rel=1e-5)
    assert found.std == pytest.approx(exact.std(), rel=1e-4)
    assert found.max_abs == np.abs(exact).max()
    assert found.zero_share == pytest.approx((exact == 0).mean())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_moments_survive_squares_that_leave_float32(scale):
    values = torch.tensor([3.0, -4.0]) * scale
    found = moments(values)
    assert found.finite
    assert found.rms == pytest.approx(3.5355339 * scale, rel=1e-5)
    assert root_mean_square(values)[0] == pytest.approx(3.5355339 * scale, rel=1e-5)


def test_a_sum_of_bf16_ones_does_not_stall():
    assert moments(torch.ones(100_000, dtype=torch.bfloat16)).mean == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_have_no_moments(bad):
    found = moments(torch.tensor([1.0, bad]))
    assert not found.finite
    assert found.rms is None
    assert root_mean_square(torch.tensor([1.0, bad])) == (None, False)


def test_a_constant_has_no_spread():
    assert moments(torch.full((1000,), 0.1)).std == 0.0


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 1000))
def test_mean_cosine_is_the_mean_over_pairs(rows, columns, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    pairs = [
        torch.nn.functional.cosine_similarity(a, b, dim=0).item()
        for a, b in itertools.combinations(matrix, 2)
    ]
    assert mean_cosine(matrix) == pytest.approx(np.mean(pairs), abs=1e-5)


def test_mean_cosine_leaves_out_rows_without_a_direction():
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert mean_cosine(rows) == pytest.approx(1.0)
    assert mean_cosine(rows[:2]) is None


def test_mean_cosine_of_exploded_rows():
    assert mean_cosine(torch.tensor([[3e30, 0.0], [1e30, 0.0], [0.0, 1e30]])) == pytest.approx(
        1 / 3
    )


def test_cosine_of_positions_averages_over_samples():
    tensor = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = np.mean([mean_cosine(sample) for sample in tensor])
    assert mean_cosine_of_positions(tensor) == pytest.approx(expected, abs=1e-5)


def test_a_histogram_counts_every_value_once():
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    found = histogram(values)
    assert sum(found.counts) == 5000
    assert len(found.edges) == BINS + 1
    expected, _ = np.histogram(values.numpy(), bins=np.array(found.edges))
    assert np.abs(expected - np.array(found.counts)).sum() <= 4  # values that lie on an edge


def test_an_outlier_does_not_squeeze_the_rest_into_one_bin():
    values = torch.cat([torch.randn(5000), torch.tensor([1e6])])
    found = histogram(values)
    assert found.edges[-1] < 20
    assert sum(found.counts) == 5001
    assert max(found.counts) < 1000


def test_histograms_of_odd_tensors():
    assert histogram(torch.tensor([float("nan")])) is None
    assert histogram(torch.full((7,), 2.0)).counts == (7,)
    assert sum(histogram(torch.tensor([1.0, float("nan"), 2.0])).counts) == 2
