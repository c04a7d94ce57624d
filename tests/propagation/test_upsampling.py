"""Resized maps, maxima and strided views, against automatic differentiation."""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch
from checks import assert_predicted, forward_only
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fanin.propagation.families.upsampling import interpolation


def conv(inputs, outputs, kernel=3, **settings):
    layer = nn.Conv2d(inputs, outputs, kernel, bias=False, **settings)
    nn.init.normal_(layer.weight, std=(2 / layer.weight[0].numel()) ** 0.5)
    return layer


MODES = {
    "bilinear": {"size": (12, 12), "mode": "bilinear"},
    "corners": {"scale_factor": 2, "mode": "bilinear", "align_corners": True},
    "nearest": {"size": (9, 12), "mode": "nearest"},
    "exact": {"size": (7, 7), "mode": "nearest-exact"},
    "bicubic": {"scale_factor": 2, "mode": "bicubic"},
    "smaller": {"size": (4, 4), "mode": "bilinear", "antialias": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_resized_maps(mode):
    def run(m, x):
        return m.b(F.interpolate(F.relu(m.a(x)), **MODES[mode]))

    assert_predicted(
        lambda: Module(run, a=conv(16, 32, padding=1), b=conv(32, 32, padding=1)),
        batch(8, 16, 6, 6), draws=12,
    )  # fmt: skip


def test_sequences_and_volumes():
    def build():
        def run(m, x):
            line = F.interpolate(m.a(x), size=13, mode="linear")
            return F.interpolate(line.unflatten(1, (8, 2, 4)), (4, 5, 13), mode="trilinear")

        layer = nn.Conv1d(16, 64, 1, bias=False)
        nn.init.normal_(layer.weight, std=0.25)
        return Module(run, a=layer)

    assert_predicted(build, batch(16, 16, 6), draws=12)


def test_the_matrix_is_the_recorded_operations_own():
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    a = interpolation("upsample_bicubic2d", "default", 5, 11, False, None)
    made = F.interpolate(x, size=(11, 11), mode="bicubic")[0, 0].numpy()
    assert np.allclose(a @ x[0, 0].numpy() @ a.T, made)


@pytest.mark.parametrize("explicit", [False, True], ids=["padding", "zeros before"])
def test_windows_at_the_border_hold_fewer_numbers(explicit):
    pool = [nn.ZeroPad2d(1), nn.MaxPool2d(3, 2)] if explicit else [nn.MaxPool2d(3, 2, 1)]
    # The stride picks the corner, which windows of four numbers made.
    forward_only(
        lambda: nn.Sequential(conv(16, 256), *pool, conv(256, 64, 1, stride=4)),
        batch(16, 16, 10, 10), draws=12,
    )  # fmt: skip


@pytest.mark.parametrize("keep", [False, True])
def test_the_largest_along_an_axis(keep):
    def run(m, x):
        largest = m.a(x).unflatten(1, (6, 32)).max(1, keepdim=keep).values
        return m.b(largest.flatten(1))

    layers = lambda: {"a": nn.Linear(64, 192, bias=False), "b": nn.Linear(32, 32, bias=False)}  # noqa: E731
    assert_predicted(lambda: Module(run, **layers()), batch(64, 64), draws=12)


def test_a_strided_view_in_order_is_no_guess():
    def run(m, x):
        h = m.a(x)
        return m.b(h.as_strided((16, 8, 8), (64, 8, 1)).flatten(1))

    layers = lambda: {"a": nn.Linear(32, 64, bias=False), "b": nn.Linear(64, 32, bias=False)}  # noqa: E731
    assert_predicted(lambda: Module(run, **layers()), batch(16, 32), draws=12)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_maps_padded_by_copies(mode):
    def run(m, x):
        return m.b(F.pad(F.relu(m.a(x)), (1, 3, 2, 0), mode=mode))

    assert_predicted(
        lambda: Module(run, a=conv(16, 32, padding=1), b=conv(32, 32)), batch(8, 16, 6, 6), draws=12
    )
