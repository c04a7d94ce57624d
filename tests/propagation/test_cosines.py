"""Products of unit vectors are bounded: powers of cosines, against sampling."""

import math

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import assert_predicted
from torch.nn import functional as F  # noqa: N812

HEADS = 24


def heads(x, few):
    return x.view(4, 10, HEADS, few).transpose(1, 2)


@pytest.mark.parametrize("few", [3, 6, 20])
def test_powers_of_angles_between_directions(few):
    # (1 − arccos(u)/π)⁷ of a Gaussian u with the variance 1/3 would be 2.4 times as large.
    def run(m, x):
        q, k = (F.normalize(heads(layer(x), few), dim=-1) for layer in (m.q, m.k))
        u = q @ k.transpose(-1, -2)
        return (1 - torch.acos(u) / math.pi) ** 7

    def build():
        return Module(run, q=dense(240, HEADS * few), k=dense(240, HEADS * few))

    assert_predicted(build, batch(4, 10, 240), forward=0.05, backward=None, draws=24)


def test_vectors_that_keep_their_lengths_are_not_bounded():
    def run(m, x):
        q = F.normalize(heads(m.q(x), 5), dim=-1)
        return (q @ heads(m.k(x), 5).transpose(-1, -2) / 2).pow(2)

    def build():
        return Module(run, q=dense(240, HEADS * 5), k=dense(240, HEADS * 5))

    assert_predicted(build, batch(4, 10, 240), forward=0.05, backward=None, draws=24)
