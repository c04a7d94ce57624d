"""Neighbours that are alike: resized maps resized again, forwards and backwards."""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch
from checks import assert_predicted, forward_only
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fanin.propagation.nearness import (
    by_matrices,
    kernel_of,
    mixed,
    off_diagonal,
    reads_of,
    settled,
)
from fanin.propagation.overlapping_maxima import correlation_of_overlap


def conv(inputs, outputs, kernel=1, **settings):
    layer = nn.Conv2d(inputs, outputs, kernel, bias=False, **settings)
    nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    return layer


@pytest.mark.parametrize("corners", [False, True], ids=["centres", "corners"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_maps_that_are_resized_three_times(mode, corners):
    def larger(x, size):
        return F.interpolate(x, size=size, mode=mode, align_corners=corners)

    def run(m, x):
        h = m.b(larger(m.a(x), (7, 6)))
        h = F.relu(m.c(larger(h, (13, 12))))
        return m.d(larger(h, (26, 20)))

    def build():
        wide = {name: conv(64, 64, 3, padding=1) for name in "bd"}
        return Module(run, a=conv(64, 64), c=conv(64, 64), **wide)

    assert_predicted(build, batch(12, 64, 4, 3), draws=12)


def test_a_strided_convolution_and_one_turned_round_behind_a_resized_map():
    def run(m, x):
        h = F.interpolate(m.a(x), scale_factor=2, mode="bilinear")
        h = F.interpolate(m.c(m.b(h)), scale_factor=3, mode="bilinear")
        return m.d(h)

    def build():
        turned = nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, bias=False)
        nn.init.normal_(turned.weight, std=(64 * 9 / 4) ** -0.5)
        parts = {"a": conv(64, 64), "b": conv(64, 64, 3, stride=2, padding=1), "c": turned}
        return Module(run, d=conv(64, 64, 3, dilation=2), **parts)

    assert_predicted(build, batch(12, 64, 5, 5), draws=12)


def test_a_skip_beside_a_resized_map():
    def run(m, x, y):
        h = F.interpolate(m.a(x), scale_factor=2, mode="bilinear") + m.b(y)
        both = torch.cat(
            [F.interpolate(h, scale_factor=2, mode="bilinear"), m.c(y).repeat(1, 1, 2, 2)], 1
        )
        return m.d(F.interpolate(both, scale_factor=2, mode="bilinear"))

    parts = lambda: {"a": conv(64, 64), "b": conv(64, 64), "c": conv(64, 32), "d": conv(96, 64)}  # noqa: E731
    inputs = batch(12, 64, 4, 4), batch(12, 64, 8, 8, seed=2)
    assert_predicted(lambda: Module(run, **parts()), inputs, draws=12)


@pytest.mark.parametrize("size", [3, 5])
def test_windows_that_overlap_are_averaged_again(size):
    def run(m, x):
        h = F.avg_pool2d(m.a(x), size, stride=2, padding=1)
        return m.b(F.avg_pool2d(F.relu(h), 2))

    assert_predicted(lambda: Module(run, a=conv(32, 64), b=conv(64, 64)), batch(24, 32, 18, 18),
                     draws=12)  # fmt: skip


@pytest.mark.parametrize(("size", "stride"), [(3, 2), (3, 1), (5, 2)])
def test_averages_of_maxima_of_windows_that_overlap(size, stride):
    def run(m, x):
        h = F.max_pool2d(F.relu(m.a(x)), size, stride)
        return m.b(F.avg_pool2d(h - h.mean((0, 2, 3), keepdim=True), 3))

    forward_only(lambda: Module(run, a=conv(32, 64), b=conv(64, 64)), batch(24, 32, 21, 21),
                 draws=12)  # fmt: skip


@pytest.mark.parametrize(("count", "shared"), [(4, 1), (6, 4), (16, 4)])
def test_maxima_of_sets_with_numbers_in_common(count, shared):
    z = np.random.default_rng(5).standard_normal((200_000, 2 * count - shared))
    one, two = z[:, :count].max(axis=1), z[:, count - shared :].max(axis=1)
    found = correlation_of_overlap(count, shared)
    assert found == pytest.approx(np.corrcoef(one, two)[0, 1], abs=0.01)


def test_sets_without_or_with_all_numbers_in_common():
    assert correlation_of_overlap(9, 0) == 0
    assert correlation_of_overlap(9, 9) == pytest.approx(1, abs=1e-9)


def random_kernel(n, seed=0):
    a = np.random.default_rng(seed).standard_normal((n, 2 * n)) + 0.3
    a[1:] += 0.7 * a[:-1]
    return a @ a.T


def test_strangers_are_none_and_averages_stay():
    assert settled(np.eye(6) + 0.4) is None
    found = settled(random_kernel(6))
    assert np.allclose(np.diag(found), 1)
    assert off_diagonal(found) == pytest.approx(0, abs=1e-12)
    powers = np.diag(np.sqrt([1, 2, 3, 4, 5, 6.0]))
    assert np.allclose(settled(powers @ random_kernel(6) @ powers), found)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "back"),
    [(1, 1, 1, False), (2, 1, 1, False), (1, 2, 2, True), (2, 1, 1, True), (2, 0, 1, True)],
)
def test_taps_meet_as_in_a_convolution_of_random_weights(stride, padding, dilation, back):
    n, taps, differ = 9, 3, 0.2
    out = (n + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    near = settled(random_kernel(out if back else n, seed=1))
    covariance = kernel_of(near, len(near), 1.0, differ)
    # The matrix of each tap alone: fresh weights have no products of two taps.
    total = 0
    for tap in range(taps):
        kernel = torch.zeros(1, 1, taps, dtype=torch.float64)
        kernel[..., tap] = 1
        eye = torch.eye(n, dtype=torch.float64)[:, None]
        a = F.conv1d(eye, kernel, stride=stride, padding=padding, dilation=dilation)[:, 0].numpy()
        a = a if back else a.T
        total = total + a @ covariance @ a.T
    found = reads_of(n, out, taps, stride, padding, dilation, back).through(near, 1.0, differ)
    expected = settled(total)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert np.allclose(found, expected)


def test_strangers_behind_a_matrix_with_overlap():
    a = np.random.default_rng(3).random((7, 5))
    pairs = np.array([2.0, 0.5])
    found = by_matrices(pairs, (1, 5), {1: a}, {})[1]
    kernel = a @ (0.5 + 1.5 * np.eye(5)) @ a.T
    roots = np.sqrt(np.diag(kernel))
    correlations = kernel / np.outer(roots, roots)
    level = off_diagonal(correlations)
    assert np.allclose(found[0, 3], (correlations[0, 3] - level) / (1 - level))


def test_a_sum_of_strangers_is_alike_as_far_as_its_parts_are():
    near = {1: settled(random_kernel(6))}
    half = mixed([(1.0, near), (1.0, {})])[1]
    assert np.allclose(half - np.eye(6), (near[1] - np.eye(6)) / 2)
    assert mixed([(1.0, {}), (0.0, near)]) == {}
