"""Matrices over tokens, and many tokens that are one: few directions, against running it."""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import predicted_and_measured
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation import prediction
from fanin.propagation.directions import inverse_directions, uneven_tokens

N = 96


def states_of(net, x, monkeypatch):
    seen = {}
    walk = prediction.walk_forward

    def watched(graph, given, *rest):
        seen.update(graph=graph, states=walk(graph, given, *rest))
        return seen["states"]

    monkeypatch.setattr(prediction, "walk_forward", watched)
    fanin.predict(net, x)
    return seen["graph"], seen["states"]


def counted(x):
    """E[cos²] of two tokens of one sample, their own means taken off, as their powers count."""
    x = x - x.mean(2, keepdim=True)
    gram = (x @ x.transpose(1, 2)).square()
    powers = x.square().sum(2)
    strangers = gram.sum((1, 2)) - gram.diagonal(dim1=1, dim2=2).sum(1)
    return float((strangers / (powers.sum(1) ** 2 - powers.square().sum(1))).mean())


@pytest.mark.parametrize(("tokens", "bent"), [(6, False), (20, False), (12, True)])
def test_sums_of_few_tokens_lie_in_few_directions(monkeypatch, tokens, bent):
    def run(m, x):
        y = m.a(F.layer_norm(x, (N,)).transpose(1, 2))
        return m.b(F.gelu(y) if bent else y).transpose(1, 2)

    def build():
        return Module(run, a=dense(tokens, 10), b=dense(10, 40))

    x = batch(30, tokens, N)
    found = []
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            found.append(counted(build()(x)))
    graph, states = states_of(build(), x, monkeypatch)
    share = inverse_directions(graph, states, graph.outputs[0])
    assert share == pytest.approx(sum(found) / len(found), rel=0.12)


@pytest.mark.parametrize("bent", [False, True])
def test_mixtures_of_one_token_are_one_direction(monkeypatch, bent):
    def run(m, x):
        h = torch.cat([torch.zeros(len(x), 14, N), x], 1)
        h = h + m.o(F.scaled_dot_product_attention(m.q(h), m.k(h), m.v(h)))
        y = m.a(F.layer_norm(h[:, :14], (N,)).transpose(1, 2))
        return m.b(F.gelu(y) if bent else y).transpose(1, 2)

    def build():
        return Module(run, q=dense(N, N), k=dense(N, N), v=dense(N, N), o=dense(N, N),
                      a=dense(14, 18), b=dense(18, 30))  # fmt: skip

    x = batch(8, 5, N)
    found, powers = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        with torch.no_grad():
            y = build()(x)
        found.append(counted(y))
        powers.append(y.square().mean(2))
    graph, states = states_of(build(), x, monkeypatch)
    share = inverse_directions(graph, states, graph.outputs[0])
    assert share == pytest.approx(sum(found) / len(found), rel=0.1 if bent else 0.02)
    # Divided by: one direction leaves E[1/p] to what the norm adds to it, two do not.
    assert uneven_tokens(graph, states, graph.outputs[0]) > (0.6 if bent else 0.9)


@pytest.mark.parametrize(("alike", "others"), [(24, 6), (10, 20)])
def test_attention_over_tokens_that_are_one(alike, others):
    def run(m, x):
        h = torch.cat([torch.zeros(len(x), alike, N), x], 1)
        for k in ("1", "2"):
            y = F.layer_norm(h, (N,))
            q, key, v = (getattr(m, name + k)(y) for name in "qkv")
            h = h + getattr(m, "o" + k)(F.scaled_dot_product_attention(q, key, v))
        return m.head(F.layer_norm(h, (N,)))

    def build():
        return Module(run, head=dense(N, N), **{a + k: dense(N, N) for a in "qkvo" for k in "12"})

    rows = predicted_and_measured(build, batch(8, others, N), draws=12)
    averages = [(rms, t) for s, rms, t, _, _ in rows if s.operation == "bmm" and s.shape[-1] == N]
    sums = [(rms, t) for s, rms, t, _, _ in rows if s.operation == "add"]
    assert len(sums) == len(averages) == 2
    # The second layer's keys are one vector in all of those places.
    for rms, truth in (averages[-1], *sums):
        assert rms == pytest.approx(truth, rel=0.1)
