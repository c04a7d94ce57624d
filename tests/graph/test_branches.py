"""Where a weight stands in its residual branch, and what closes that branch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fanin.graph import read_roles, record
from fanin.graph.role import Branch


class Net(nn.Module):
    """A linear layer before and behind two sums; what a branch does is an argument."""

    def __init__(self, branch):
        super().__init__()
        self.first, self.last, self.branch = nn.Linear(8, 8), nn.Linear(8, 3), branch
        self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))
        self.norm, self.learned = nn.LayerNorm(8), nn.Parameter(torch.full((1,), 0.3))
        self.register_buffer("stored", torch.full((1,), 0.3))

    def forward(self, x):
        x = self.first(x)
        x = x + self.c(F.relu(x))
        return self.last(self.branch(self, x))


def places(branch):
    roles = read_roles(record(Net(branch), torch.randn(4, 8)))
    return {name[0]: r.branch for name, r in roles.items() if name in ("a.weight", "b.weight")}


def two(net, x):
    return net.b(F.relu(net.a(x)))


def behind_norm(net, x):
    return x + two(net, x)


CASES = {
    "plain": (lambda net, x: x + two(net, x), {}),
    "constant": (lambda net, x: x + 0.1 * two(net, x), {"constant": 0.1}),
    "divided": (lambda net, x: x + two(net, x) / 4, {"constant": 0.25}),
    "alpha of the sum": (lambda net, x: torch.add(x, two(net, x), alpha=0.5), {"constant": 0.5}),
    "learned": (lambda net, x: x + net.learned * two(net, x), {"factors": ("learned",)}),
    "stored": (lambda net, x: x + net.stored * two(net, x), {"factors": ("stored",)}),
    "bent": (lambda net, x: x + F.relu(two(net, x)), {"bent": True}),
    "norm first": (lambda net, x: x + two(net, net.norm(x)), {"normed": True, "plain": False}),
    "norm last": (
        lambda net, x: x + net.norm(two(net, x)),
        {"normed": True, "plain": False},
    ),
    "gated": (
        lambda net, x: x + torch.sigmoid(net.c(x)) * two(net, x),
        {"gated": True, "plain": False},
    ),
    "norm on the stream": (lambda net, x: behind_norm(net, net.norm(x)), {"normed": True}),
    "branch first": (lambda net, x: two(net, x) + x, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_closes_a_branch(case):
    branch, expected = CASES[case]
    found = places(branch)
    assert found["a"] == Branch(layers=2, place=1, **{"plain": True, **expected})
    assert found["b"] == Branch(layers=2, place=2, **{"plain": True, **expected})


def test_a_branch_within_a_branch():
    def nested(net, x):
        h = net.a(x)
        h = h + net.c(F.relu(h))
        return x + net.b(h)

    class Inner(Net):
        def forward(self, x):
            return self.last(self.branch(self, self.first(x)))

    roles = read_roles(record(Inner(nested), torch.randn(4, 8)))
    found = {name[0]: r.branch for name, r in roles.items() if r.branch is not None}
    assert found["c"] == Branch(layers=1, place=1, plain=True, nested=True)
    assert found["a"] == Branch(layers=3, place=1, plain=True, encloses=True)
    assert found["b"] == Branch(layers=3, place=3, plain=True, encloses=True)


@pytest.mark.parametrize(
    ("end", "ends"),
    [
        (lambda net, x: x, True),
        (lambda net, x: (x * 2).mean(0), True),
        (lambda net, x: net.norm(x), False),
        (lambda net, x: (x, net.last(x)), False),
        (lambda net, x: x + net.c(F.relu(x)), False),
    ],
    ids=["as it is", "pooled", "behind a norm", "read by a head too", "another branch"],
)
def test_the_sum_is_the_models_output(end, ends):
    class Ended(Net):
        def forward(self, x):
            x = self.first(x)
            x = x + self.c(F.relu(x))
            return end(self, self.branch(self, x))

    roles = read_roles(record(Ended(CASES["plain"][0]), torch.randn(4, 8)))
    assert roles["b.weight"].branch.ends is ends


def test_outside_of_branches_there_is_none():
    roles = read_roles(record(Net(CASES["plain"][0]), torch.randn(4, 8)))
    assert roles["first.weight"].branch is None
    assert roles["last.weight"].branch is None


class Modulated(nn.Module):
    def __init__(self, use):
        super().__init__()
        self.norm, self.use = nn.LayerNorm(8, elementwise_affine=False), use
        self.modulation, self.inner, self.head = nn.Linear(4, 16), nn.Linear(8, 8), nn.Linear(8, 3)
        self.other, self.table = nn.Linear(8, 8), nn.Parameter(torch.randn(8))

    def forward(self, x, c):
        return self.head(self.use(self, x, *self.modulation(c).chunk(2, -1)))


NEUTRAL = {
    "scale and shift": lambda m, x, s, t: x + m.inner(m.norm(x) * (1 + s) + t),
    "scale and gate": lambda m, x, s, t: x + t * m.inner(m.norm(x) * (1 + s)),
    "a table beside it": lambda m, x, s, t: x + m.inner(m.norm(x) * (m.table + s) + t),
    "fused gate": lambda m, x, s, t: torch.addcmul(x, t, m.inner(m.norm(x) * (1 + s))),
    "bounded gate": lambda m, x, s, t: x + t.tanh() * m.inner(m.norm(x) * (1 + s)),
    "exponential": lambda m, x, s, t: x + m.inner(m.norm(x) * (1 + s) * t.exp()),
}
SHUT = {
    "no one added": lambda m, x, s, t: x + m.inner(m.norm(x) * s + t),
    "read by a weight": lambda m, x, s, t: x + m.inner(m.norm(x) * (1 + s) + m.other(t)),
    "a gate outside of branches": lambda m, x, s, t: t * m.inner(m.norm(x) * (1 + s)),
}


@pytest.mark.parametrize("case", [*NEUTRAL, *SHUT])
def test_modulations_that_may_be_zero(case):
    model = Modulated({**NEUTRAL, **SHUT}[case])
    roles = read_roles(record(model, (torch.randn(2, 8), torch.randn(2, 4))))
    assert roles["modulation.weight"].role == "modulation"
    assert roles["modulation.weight"].neutral_at_zero is (case in NEUTRAL)
    if case in NEUTRAL and case != "a table beside it":
        # What the word means: with zeros the stream goes on as if nothing modulated it.
        nn.init.zeros_(model.modulation.weight)
        nn.init.zeros_(model.modulation.bias)
        x = torch.randn(2, 8)
        open_branch = x + model.inner(model.norm(x))
        expected = x if case.endswith("gate") else open_branch
        assert torch.allclose(model(x, torch.randn(2, 4)), model.head(expected), atol=1e-6)
