"""Streams: dominators against brute force, norms, tails."""

import pytest
import torch
from healthy_models import TinyDiT, gpt2, resnet, swiglu_prenorm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fanin.checking.case import Case
from fanin.checking.drift import chance_of_width
from fanin.checking.norms import norm_outputs
from fanin.checking.streams import _dominators
from fanin.measuring import measured


def case_of(model, inputs, target=None):
    found = measured(model, inputs, target=target)
    return Case(model, found.signals, found.graph, found.roles)


class RandomNet(nn.Module):
    """Layers that read one or two earlier values, summed."""

    def __init__(self, sources):
        super().__init__()
        self.sources = sources
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in sources)

    def forward(self, x):
        values = [x]
        for layer, (one, other) in zip(self.layers, self.sources, strict=True):
            read = values[one] if one == other else values[one] + values[other]
            values.append(layer(read))
        return values[-1]


def brute_force(graph, root, end):
    """Values without which no path leads from root to end."""

    def reaches(without):
        reached = {root}
        for op in graph.operations:
            if any(v in reached for v in op.inputs):
                reached.update(v for v in op.outputs if v != without)
        return end in reached

    tensors = {v for op in graph.operations for v in op.outputs}
    return {v for v in tensors if v != end and not reaches(v)} | {end}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_dominators_agree_with_brute_force(data):
    count = data.draw(st.integers(1, 7))
    sources = [(data.draw(st.integers(0, i)), data.draw(st.integers(0, i))) for i in range(count)]
    model = RandomNet(sources)
    found = measured(model, torch.randn(2, 3))
    graph, root, end = found.graph, found.graph.inputs[0], found.graph.outputs[0]
    chain = [v for v in _dominators(graph, found.signals, root) if v != root]
    assert set(chain) == brute_force(graph, root, end)


def test_a_plain_net_passes_every_layer():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    (stream,) = case_of(model, torch.randn(8, 4)).streams
    assert [row.weight for row in stream.layers] == ["0.weight", "2.weight"]
    assert stream.head == "4.weight"


def test_branches_are_not_on_the_stream():
    model, x, y = swiglu_prenorm()
    (stream,) = case_of(model, x, y).streams
    assert [row.weight for row in stream.layers] == ["0.weight"]
    assert sum(p.signal.operation == "add" for p in stream.points) == 8
    assert all(p.forgotten for p in stream.points[:-1])
    assert [p.is_norm for p in stream.tail] == [True]


def test_conditioning_does_not_hide_the_stream():
    case = case_of(TinyDiT(), (torch.randn(4, 16, 12), torch.rand(4)), torch.randn(4, 16, 12))
    data = case.streams[0]
    assert sum(p.signal.operation == "add" for p in data.points) >= 8


def test_the_tied_head_of_a_language_model_ends_the_stream():
    model, inputs, _ = gpt2()
    (stream,) = case_of(model, inputs).streams
    assert stream.head == "transformer.wte.weight"
    assert len(stream.points) > 8


def test_batch_norm_counts_in_training_only():
    model, x, y = resnet()
    assert norm_outputs(case_of(model, x, y).graph)
    assert not norm_outputs(case_of(model.eval(), x, y).graph)


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm(8),
        nn.RMSNorm(8),
        nn.GroupNorm(2, 8),
        nn.BatchNorm1d(8),
        lambda h: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda h: (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True) + 1e-5).sqrt(),
        lambda h: h / h.norm(dim=-1, keepdim=True),
        F.normalize,
    ],
)
def test_norms_are_seen_fused_or_written_out(norm):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
            self.norm = norm

        def forward(self, x):
            return self.last(self.norm(self.first(x)))

    (stream,) = case_of(Net(), torch.randn(16, 4)).streams
    assert stream.points[0].forgotten
    assert any(p.is_norm for p in stream.points)


def test_a_mere_division_is_no_norm():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(self.first(x) / 8**0.5)

    (stream,) = case_of(Net(), torch.randn(16, 4)).streams
    assert not any(p.is_norm for p in stream.points)


def test_the_chance_of_width_is_that_of_gaussian_relu_nets():
    """log of the second moment over draws of the weights: N(−5L/2n, 5L/n)."""
    width, depth, draws = 64, 20, 200
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(draws, 1, width, generator=generator)
    start = x.square().mean((1, 2)).log()
    for _ in range(depth):
        w = torch.randn(draws, width, width, generator=generator) * (2 / width) ** 0.5
        x = torch.relu(x @ w)
    change = x.square().mean((1, 2)).log() - start
    row = type("Row", (), {"fan_in": float(width)})
    spread, fall = chance_of_width([row] * depth)
    # Half of log q is log RMS; ``spread`` is three of its standard deviations. The formula is
    # first order in 1/n: a tenth of slack beside the error of 200 draws (5 % on a std).
    assert change.std().item() / 2 == pytest.approx(spread / 3, rel=0.1 + 3 / (2 * draws) ** 0.5)
    error = change.std().item() / draws**0.5
    assert -change.mean().item() / 2 == pytest.approx(fall, abs=1.5 * error + 0.1 * fall)
