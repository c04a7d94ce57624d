"""Messages along the edges of a graph, against counting by hand and running the layers."""

import itertools

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import assert_predicted
from torch.nn import functional as F  # noqa: N812

from fanin.propagation.cotangent import direction, seed_of_direction
from fanin.propagation.edges import meeting
from fanin.propagation.layout import plain_axes

N = 192
GENERATOR = torch.Generator().manual_seed(5)
NODES = 30
# One node of three is a hub: it receives most of the messages, and a few nodes send most.
TO = torch.cat([torch.arange(NODES), torch.randint(0, 5, (70,), generator=GENERATOR)])
FROM = torch.cat([torch.arange(NODES).roll(1), torch.randint(3, 12, (70,), generator=GENERATOR)])


def test_how_often_edges_meet_is_counted():
    found = meeting(TO, FROM)
    pairs = list(itertools.permutations(range(len(TO)), 2))
    for chance, wanted in (
        (found.overall, [True, False]), (found.here, [True]), (found.elsewhere, [False])
    ):  # fmt: skip
        among = [(i, j) for i, j in pairs if bool(TO[i] == TO[j]) in wanted]
        shared = sum(bool(FROM[i] == FROM[j]) for i, j in among)
        assert chance == pytest.approx(shared / len(among))


def sums(y):
    return y.new_zeros(NODES, y.shape[1]).index_add(0, TO, y)


def means(y):
    index = TO[:, None].expand_as(y)
    return y.new_zeros(NODES, y.shape[1]).scatter_reduce(0, index, y, "mean", include_self=False)


@pytest.mark.parametrize("reduce", [sums, means], ids=["sums", "means"])
@pytest.mark.parametrize("bent", [False, True], ids=["linear", "rectified"])
def test_hubs_are_strong_and_are_read_often(reduce, bent):
    """What a node sends along its edges is one vector; two messages to one node are two."""

    def run(m, x):
        h = m.a(x)
        h = F.relu(h) if bent else h
        h = m.b(reduce(h[FROM]))
        h = F.relu(h) if bent else h
        # By how often hubs are read: rows of another strength than the nodes'.
        return m.c(h.index_select(0, TO))

    def build():
        return Module(run, a=dense(N, N), b=dense(N, N), c=dense(N, N))

    # Known to be short: behind means of ReLUs 12 to 14 % at every width from 192 to 512.
    backward = 0.14 if bent and reduce is means else 0.12
    assert_predicted(build, batch(NODES, N), forward=0.06, backward=backward, draws=8)


def test_a_graph_knows_where_its_direction_is_strong():
    """Of 24 numbers of a direction some nodes have ten times others; shares sum over edges."""
    width, nodes = 4, 6
    to, frm = torch.tensor([0, 1, 2, 3, 4, 5, 3]), torch.tensor([5, 0, 1, 2, 3, 4, 0])

    def run(m, x):
        h = m.b(F.relu(m.a(x)))
        return h.new_zeros(nodes, width).index_add(0, to, h[frm])

    def build():
        return Module(run, a=dense(N, N), b=dense(N, width))

    assert_predicted(build, batch(nodes, N), forward=0.15, backward=0.08, draws=24)


def test_the_powers_of_a_direction():
    shape = (6, 4)
    seed = seed_of_direction(plain_axes(shape), 2)
    assert seed.pairs.flat[0] == pytest.approx(4.0)
    assert torch.allclose(torch.from_numpy(seed.profile), direction(shape).double() ** 2, atol=1e-6)
    assert seed_of_direction(plain_axes((300, 400))).profile is None
    assert seed_of_direction(()).profile is None
