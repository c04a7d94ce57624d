"""The recipe "torch" against torch itself: the layers' own draws are the truth."""

import math

import pytest
import torch
from torch import nn

import fanin
from fanin.planning import Action

LAYERS = {
    "linear": lambda: nn.Linear(30, 50),
    "conv1d": lambda: nn.Conv1d(8, 30, 5),
    "conv2d grouped": lambda: nn.Conv2d(16, 32, 3, groups=4),
    "conv3d": lambda: nn.Conv3d(4, 20, 3),
    "transposed": lambda: nn.ConvTranspose2d(16, 8, 4, stride=2),
    "transposed grouped": lambda: nn.ConvTranspose1d(16, 32, 4, groups=4),
    "bilinear": lambda: nn.Bilinear(9, 11, 30),
    "embedding": lambda: nn.Embedding(60, 30, padding_idx=3),
    "bag": lambda: nn.EmbeddingBag(60, 30),
    "rnn": lambda: nn.RNN(12, 40),
    "lstm": lambda: nn.LSTM(12, 24, num_layers=2, bidirectional=True, proj_size=8),
    "gru": lambda: nn.GRU(12, 24),
    "lstm cell": lambda: nn.LSTMCell(12, 24),
    "gru cell": lambda: nn.GRUCell(12, 24, bias=False),
    "attention": lambda: nn.MultiheadAttention(24, 2, add_bias_kv=True),
    "attention of other widths": lambda: nn.MultiheadAttention(24, 2, kdim=12, vdim=20),
    "transformer": lambda: nn.Transformer(24, 2, 1, 1, 48, batch_first=True),
    "encoder layer": lambda: nn.TransformerEncoderLayer(24, 2, 48),
    "batch norm": lambda: nn.BatchNorm2d(6),
    "layer norm": lambda: nn.LayerNorm((4, 6)),
    "group norm": lambda: nn.GroupNorm(2, 6),
    "rms norm": lambda: nn.RMSNorm(6),
    "prelu": lambda: nn.PReLU(5, init=0.1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_std_and_bounds_are_those_of_torchs_own_draws(name):
    build = LAYERS[name]
    plan = fanin.plan(build(), recipe="torch")
    copies = 30
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [dict(build().named_parameters()) for _ in range(copies)]
    for parameter, assignment in plan.items():
        values = torch.stack([d[parameter].detach() for d in draws]).double()
        assert assignment.action is Action.INITIALISE, parameter
        n = values.numel()
        # Five standard errors of a std: its relative error is at most √(1/(2n)) for κ <= 3.
        tolerance = 5 * assignment.std * math.sqrt(1 / (2 * n)) + 1e-6
        assert abs(float(values.std(correction=0)) - assignment.std) <= tolerance, parameter
        promised = assignment.scheme.expected(assignment.shape, assignment.axes)
        if promised.high is not None:
            assert float(values.max()) <= promised.high + 1e-6
            # The largest of n uniform values lies within 20 bounds/n of the top, but for e^-10.
            assert float(values.max()) >= promised.high - 20 * (promised.high - promised.low) / n


def test_own_parameters_are_left_with_the_reason():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.gain = nn.Parameter(torch.ones(3))

    plan = fanin.plan(Scaled(), recipe="torch")
    assert plan["weight"].action is Action.INITIALISE  # a Linear is a Linear when derived from
    assert plan["gain"].action is Action.LEAVE
    assert "gain" in plan["gain"].reason


def test_it_works_without_inputs_and_ignores_them():
    model = nn.Sequential(nn.Linear(3, 3))
    with_inputs = fanin.plan(model, torch.zeros(1, 7), "torch")  # a shape that would not run
    assert with_inputs == fanin.plan(model, recipe="torch")


def test_shipped_leaves_everything():
    plan = fanin.plan(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), recipe="shipped")
    assert {a.action for a in plan.values()} == {Action.LEAVE}
