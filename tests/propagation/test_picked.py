"""Elements picked by several indices at once: kinds of pairs counted, nets against running them."""

from itertools import product

import numpy as np
import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import predicted_and_measured
from torch import nn

from fanin.propagation.layout import plain_axes
from fanin.propagation.picked import Picks
from fanin.propagation.state import gaussian

SAMPLES, PLACES = 6, 5
CHOSEN = torch.tensor([4, 1, 4, 4, 0, 4])


def counted(one, two):
    """The share of each kind of pair of picks that is of each kind in the table, pair by pair."""
    found, total = np.zeros((2, 2, 2)), np.zeros(2)
    for i, j in product(range(len(one)), repeat=2):
        found[int(i != j), int(one[i] != one[j]), int(two[i] != two[j])] += 1
        total[int(i != j)] += 1
    return found / total[:, None, None]


@pytest.mark.parametrize(
    ("one", "two"),
    [([0, 1, 2, 3, 4, 5], [4, 1, 4, 4, 0, 4]), ([0, 0, 3, 3], [2, 1, 1, 2]), ([5, -1], [0, 0])],
    ids=["one of each sample", "repeated", "negative"],
)
def test_kinds_of_pairs_are_counted(one, two):
    picks = Picks((torch.tensor(one), torch.tensor(two)), (SAMPLES, PLACES))
    expected = counted([k % SAMPLES for k in one], two)
    assert np.allclose(picks.chances(), expected, atol=1e-12)


def table():
    """Moments of a table of three features, and numbers that have exactly those on average."""
    pairs = np.zeros((2, 2, 2))
    pairs[0, 0, 0], pairs[1, 0, 0], pairs[0, 1, 0] = 1.0, 0.5, 0.2
    return gaussian(plain_axes((SAMPLES, PLACES, 3)), 0.0, pairs)


def test_what_is_picked_shares_what_its_places_share():
    index = torch.arange(SAMPLES)
    made = Picks((index, CHOSEN), (SAMPLES, PLACES)).read(table())
    kinds = counted(index.tolist(), CHOSEN.tolist())
    assert made.shape == (SAMPLES, 3)
    assert made.pairs[1, 0] == pytest.approx((kinds[1] * table().pairs[..., 0]).sum())


def test_the_gradient_returns_to_the_places_that_were_picked():
    index, rng = torch.arange(SAMPLES), np.random.default_rng(0)
    picks = Picks((index, CHOSEN), (SAMPLES, PLACES))
    g = np.full((SAMPLES, 3), 0.7) + rng.standard_normal((SAMPLES, 3))
    whole = np.zeros((SAMPLES, PLACES, 3))
    np.add.at(whole, (index.numpy(), CHOSEN.numpy()), g)
    from fanin.propagation.data_moments import pair_moments_of

    # Exact where kinds of pairs of picks are each of one kind in the table.
    same = picks.sent_back(pair_moments_of(g), plain_axes(g.shape), table())
    truth = pair_moments_of(whole)
    assert same[0, 0, 0] == pytest.approx(truth[0, 0, 0])
    assert same[0, 0, 1] == pytest.approx(truth[0, 0, 1])
    profile, factor = picks.carry(table(), picks.read(table()))(None)
    assert factor == 1.0
    expected = np.zeros((SAMPLES, PLACES))
    expected[index.numpy(), CHOSEN.numpy()] = PLACES
    assert profile[..., 0] == pytest.approx(expected)


def test_a_norm_over_samples_behind_picked_tokens():
    def run(m, x):
        h = m.a(x) + m.places(torch.arange(PLACES))
        return m.head(m.norm(m.b(h[torch.arange(SAMPLES), CHOSEN])))

    def build():
        places = nn.Embedding(PLACES, N)
        return Module(run, a=dense(), b=dense(N, 4 * N), places=places,
                      norm=nn.BatchNorm1d(4 * N), head=dense(4 * N, 64))  # fmt: skip

    rows = predicted_and_measured(build, batch(SAMPLES, PLACES, N), draws=16)
    picked = [
        (g, t) for s, _, _, g, t in rows if s.operation in ("index", "add", "mm", "embedding")
    ]
    assert len(picked) >= 4
    for gradient, truth in picked:
        assert gradient == pytest.approx(truth, rel=0.1)
