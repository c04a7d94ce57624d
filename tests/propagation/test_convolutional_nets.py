"""Convolutional nets whose channels or places are not of one kind, against sampling."""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch
from checks import assert_predicted, forward_only
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fanin.propagation.profile import MOST_LEVELS, at_each_power, levels


def conv(inputs, outputs, kernel=3, **settings):
    return nn.Conv2d(inputs, outputs, kernel, bias=False, **settings)


def test_channels_put_together_keep_means_of_their_own_in_a_norm():
    """A pooled map has less variance than its second moment says: its gradient is larger."""

    def run(m, x):
        first = F.max_pool2d(F.relu(m.a(x)), 2)
        inner = torch.cat([first, m.b(first)], dim=1)
        return m.d(F.relu(m.n(torch.cat([inner, m.c(inner)], dim=1))))

    assert_predicted(
        lambda: Module(run, a=conv(24, 64, padding=1), b=conv(64, 48, padding=1),
                       c=conv(112, 32, 1), d=conv(144, 64), n=nn.BatchNorm2d(144)),
        batch(12, 24, 12, 12), draws=8, backward=0.03, recipe="he_normal",
    )  # fmt: skip


def test_average_pools_leave_blocks_of_equal_gradients():
    """Each block of 4 shares one gradient, of which the norm behind takes the mean off."""

    def run(m, x):
        y = F.avg_pool2d(m.b(F.relu(m.n(m.a(x)))), 2)
        return m.c(y)

    assert_predicted(
        lambda: Module(run, a=conv(24, 64, padding=1), b=conv(64, 64, 1), c=conv(64, 64, 1),
                       n=nn.BatchNorm2d(64)),
        batch(2, 24, 4, 4), draws=40, backward=0.03, recipe="he_normal",
    )  # fmt: skip


@pytest.mark.parametrize("stride", [1, 3])
def test_overlapping_pools(stride):
    def run(m, x):
        return m.b(F.avg_pool2d(F.relu(m.a(x)), 3, stride, padding=1))

    assert_predicted(
        lambda: Module(run, a=conv(16, 48), b=conv(48, 48)),
        batch(8, 16, 12, 12),
        draws=12,
        recipe="he_normal",
    )


def test_groups_of_channels_put_together():
    """A UNet's skip beside what comes up, one group norm over both."""

    def run(m, x):
        return m.b(F.silu(m.norm(torch.cat([m.a(x), 3 * m.c(x)], 1))))

    def build():
        norm = nn.GroupNorm(4, 64)
        return Module(run, a=conv(16, 32), c=conv(16, 32), norm=norm, b=conv(64, 16))

    forward_only(build, batch(8, 16, 8, 8), forward=0.1, draws=16, recipe="he_normal")


def test_the_one_corner_that_padding_weakened():
    """A strided 1×1 convolution reads the corners of a padded map, one place of 196."""

    def run(m, x):
        for layer in m.layers:
            x = F.relu(layer(x))
        return m.d(x)[..., :1, :1] * 1.0

    def build():
        layers = [conv(16 if k == 0 else 64, 64, padding=1) for k in range(6)]
        return Module(run, layers=nn.ModuleList(layers), d=conv(64, 256, 1, stride=2))

    forward_only(build, batch(8, 16, 14, 14), forward=0.08, draws=16, recipe="he_normal")


def test_levels_of_many_powers():
    powers = np.random.default_rng(0).gamma(2.0, size=(40, 30))
    powers[3, 4] = 1e-3
    distinct, shares, places = levels(powers)
    assert len(distinct) <= MOST_LEVELS
    assert np.isclose(shares @ distinct, powers.mean())
    assert (places == places[3, 4]).mean() < 0.2  # the weak place is not one of a twelfth
    assert np.allclose(at_each_power(powers, lambda p: 3 * p + 1), 3 * powers + 1)
