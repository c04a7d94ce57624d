"""Messages along the edges of a graph, against counting by hand and running the layers."""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import assert_predicted
from torch.nn import functional as F  # noqa: N812

from fanin.propagation.cotangent import direction, seed_of_direction
from fanin.propagation.edge_sums import Line, along_edges, at_nodes
from fanin.propagation.edges import degrees_at
from fanin.propagation.layout import plain_axes

N = 192
GENERATOR = torch.Generator().manual_seed(5)
NODES = 30
# One node of three is a hub: it receives most of the messages, and a few nodes send most.
TO = torch.cat([torch.arange(NODES), torch.randint(0, 5, (70,), generator=GENERATOR)])
FROM = torch.cat([torch.arange(NODES).roll(1), torch.randint(3, 12, (70,), generator=GENERATOR)])


def line_of_matrix(moments):
    """One axis of a tensor from E[x x′] of all its places."""
    n = len(moments)
    powers = torch.diagonal(moments)
    same = powers.mean()
    differ = (moments.sum() - powers.sum()) / (n * (n - 1))
    return Line(same.numpy(), differ.numpy(), (powers / same)[:, None].numpy())


def assert_alike(found, wanted):
    for one, two in ((found.same, wanted.same), (found.differ, wanted.differ)):
        assert float(one) == pytest.approx(float(two), rel=1e-9)
    assert found.powers == pytest.approx(wanted.powers, rel=1e-9)


@pytest.mark.parametrize("averaged", [False, True], ids=["sums", "means"])
@pytest.mark.parametrize("common", [0.0, 0.3, -0.02])
def test_edges_and_nodes_are_counted(common, averaged):
    """Against the whole matrix E[x x′] of nodes, moved along the edges and summed."""
    strengths = torch.rand(NODES, generator=GENERATOR, dtype=torch.float64) * 3
    nodes = torch.full((NODES, NODES), common, dtype=torch.float64).fill_diagonal_(1.0)
    nodes = nodes * strengths.outer(strengths)
    shares = (1 / degrees_at(FROM)) if averaged else torch.ones(len(FROM), dtype=torch.float64)
    carried = nodes[FROM][:, FROM] * shares.outer(shares)
    edges = along_edges(line_of_matrix(nodes), FROM.numpy(), NODES, shares.numpy())
    assert_alike(edges, line_of_matrix(carried))
    shares = 1 / degrees_at(TO)
    to = torch.nn.functional.one_hot(TO, NODES).double() * shares[:, None]
    made = at_nodes(edges, TO.numpy(), NODES, FROM.numpy(), shares.numpy())
    assert_alike(made, line_of_matrix(to.T @ carried @ to))


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

    # The power of a hub's sum of fixed directions has a chance of √(2/N), 5 % over five hubs; the
    # mean of the one draw that is predicted from moves a ReLU's by 3 % at each matrix.
    assert_predicted(build, batch(NODES, N), forward=0.08, backward=0.07, draws=8)


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
