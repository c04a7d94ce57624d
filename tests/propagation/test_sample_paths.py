"""Chains of operations without rules, against running them: the same numbers must run through.

Squares are averaged over 24 draws of the weights.  Scores of 200 nodes under one vector of weights
vary together by √(2/256), 2 % a head; what follows from 8 heads, 400 edges and 24 draws is left
with less than 2 %, and tolerances are four of them.
"""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import assert_predicted, predicted_and_measured
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation import prediction

NODES, EDGES, HEADS, N = 200, 400, 8, 256


def edges():
    """A graph in which every node has an edge from the one before it, and as many random ones."""
    generator = torch.Generator().manual_seed(3)
    ring = torch.stack([torch.arange(NODES), (torch.arange(NODES) + 1) % NODES])
    return torch.cat([ring, torch.randint(NODES, (2, EDGES - NODES), generator=generator)], dim=1)


def softmax_over(scores, ends):
    """A softmax over the edges that end in one node, as graph libraries write it out."""
    index = ends[:, None].expand_as(scores)
    empty = scores.new_zeros(NODES, scores.shape[1])
    most = empty.scatter_reduce(0, index, scores.detach(), "amax", include_self=False)
    powers = (scores - most.index_select(0, ends)).exp()
    total = empty.scatter_add(0, index, powers) + 1e-16
    return powers / total.index_select(0, ends)


def attention(m, x, both):
    starts, ends = both
    values = m.value(x)
    near, far = m.near(x).index_select(0, ends), m.far(x).index_select(0, starts)
    shares = softmax_over(F.leaky_relu(near + far, 0.2), ends)
    messages = values.index_select(0, starts).view(EDGES, HEADS, -1) * shares[..., None]
    return x.new_zeros(NODES, N).index_add(0, ends, messages.flatten(1))


def graph_attention():
    return Module(attention, value=dense(), near=dense(N, HEADS), far=dense(N, HEADS))


def test_a_softmax_over_edges_is_predicted_through_its_parts():
    rows = predicted_and_measured(graph_attention, (batch(NODES, N), edges()), draws=24)
    seen = set()
    for signal, rms, truth, gradient, gradient_truth in rows:
        if signal.operation in ("new_zeros", "detach"):
            continue
        seen.add(signal.operation)
        where = f"{signal.operation} {signal.shape}"
        assert rms == pytest.approx(truth, rel=0.08), where
        if gradient_truth is not None:
            assert gradient == pytest.approx(gradient_truth, rel=0.12), where
    assert {"scatter_reduce", "exp", "scatter_add", "div", "mm"} <= seen


def test_shares_of_one_node_sum_to_one():
    signals = fanin.predict(graph_attention(), (batch(NODES, N), edges()))
    share = next(s for s in signals.tensors.values() if s.operation == "div")
    assert share.sampled
    # 400 edges, each with one share of the 200 nodes' ones.
    assert share.mean == pytest.approx(NODES / EDGES, rel=1e-3)


def route(m, x):
    weights, chosen = m.router(x).softmax(-1).topk(2)
    weights = weights / weights.sum(-1, keepdim=True)
    gates = torch.zeros(x.shape[0], 8).scatter(1, chosen, weights)
    return (m.experts(x).view(-1, 8, 32) * gates[..., None]).sum(1)


def test_chosen_weights_are_divided_by_their_own_sum():
    signals = fanin.predict(Module(route, router=dense(N, 8), experts=dense()), batch(128, N))
    share = next(s for s in signals.tensors.values() if s.operation == "div")
    assert share.mean == pytest.approx(0.5, abs=1e-3)
    assert_predicted(
        lambda: Module(route, router=dense(N, 8), experts=dense()),
        batch(128, N),
        forward=0.1,
        backward=None,
        draws=16,
        sampled=True,
        skip=("topk",),
    )


def test_the_next_matrix_ends_a_path(monkeypatch):
    """Samples are carried through GELU and a sum, and not past weights."""
    kept = []

    class Parts(prediction.CallParts):
        def __init__(self):
            super().__init__()
            kept.append(self)

    def run(m, x):
        return m.b(F.gelu(m.a(x).sort(-1).values) + 1)

    monkeypatch.setattr(prediction, "CallParts", Parts)
    signals = fanin.predict(Module(run, a=dense(), b=dense()), batch(64, N))
    (parts,) = kept
    carried = {s.operation for s in signals.tensors.values() if s.tensor in parts.samples}
    assert carried == {"mm", "sort", "gelu", "add"}
    last = [s for s in signals.tensors.values() if s.operation == "mm"][-1]
    assert last.tensor not in parts.samples


@pytest.mark.parametrize("power", [2, 3])
def test_powers_taken_in_place_are_those_of_the_tensor(power):
    def run(m, x):
        return m.b(m.a(x).clone().pow_(power))

    assert_predicted(
        lambda: Module(run, a=dense(), b=dense()), batch(256, N), backward=None, forward=0.05
    )


def test_two_predictions_of_one_model_are_equal():
    model, inputs = graph_attention(), (batch(NODES, N), edges())
    one, two = fanin.predict(model, inputs), fanin.predict(model, inputs)
    assert [s.rms for s in one.tensors.values()] == [s.rms for s in two.tensors.values()]
    assert [s.gradient_rms for s in one.tensors.values()] == [
        s.gradient_rms for s in two.tensors.values()
    ]


def test_an_entry_of_a_codebook_is_near_what_it_stands_for():
    def quantised(m, x):
        z = m.into(x).permute(0, 2, 3, 1)
        chosen = torch.cdist(z.reshape(-1, 2), m.book.weight).argmin(1)
        near = m.book(chosen).view_as(z)
        loss = (near.detach() - z).square().mean() + 0.5 * (near - z.detach()).square().mean()
        straight = z + (near - z).detach()
        return m.out(straight.permute(0, 3, 1, 2)), loss

    def build():
        into, out = torch.nn.Conv2d(32, 2, 1, bias=False), torch.nn.Conv2d(2, 32, 1, bias=False)
        torch.nn.init.normal_(into.weight, std=32**-0.5)
        torch.nn.init.normal_(out.weight, std=2**-0.5)
        return Module(quantised, into=into, out=out, book=torch.nn.Embedding(64, 2))

    # A matrix of 2 by 2 and 64 entries differ from draw to draw.
    rows = predicted_and_measured(build, batch(4, 32, 9, 9), draws=60, recipe="auto")
    compared = 0
    for signal, rms, truth, gradient, gradient_truth in rows:
        if len(signal.shape) > 1 and signal.operation in ("sub", "embedding", "add", "convolution"):
            assert rms == pytest.approx(truth, rel=0.1), f"{signal.operation} {signal.shape}"
            compared += 1
            if gradient_truth is not None:
                where = f"gradient of {signal.operation} {signal.shape}"
                assert gradient == pytest.approx(gradient_truth, rel=0.15), where
    assert compared >= 7
