"""Golden tables of families that transformers has no model of: nets as the papers build them.

The numbers are written out by hand from the papers' formulas.
"""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from golden import check_table
from torch import nn

import fanin


def generator():
    """Radford et al. 2015: strided transposed convolutions with batch norm."""
    net = nn.Sequential(
        nn.ConvTranspose2d(10, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    return net, torch.randn(2, 10, 1, 1)


def discriminator():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
        nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2, True),
        nn.Conv2d(16, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
    )  # fmt: skip
    return net, torch.randn(2, 3, 16, 16)


class SineLayer(nn.Module):
    """Sitzmann et al. 2020: sin(ω₀(Wx + b))."""

    def __init__(self, inputs, outputs, omega_0=30.0):
        super().__init__()
        self.omega_0, self.linear = omega_0, nn.Linear(inputs, outputs)

    def forward(self, x):
        return torch.sin(self.omega_0 * self.linear(x))


def siren():
    net = nn.Sequential(
        SineLayer(2, 16), SineLayer(16, 24), SineLayer(24, 24), nn.Linear(24, 1)
    )  # fmt: skip
    return net, torch.rand(5, 2)


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.rnn = nn.LSTM(6, 8, 2, batch_first=True)
        self.out = nn.Linear(8, 20)

    def forward(self, ids):
        return self.out(self.rnn(self.embed(ids))[0])


STEPS = 30


def lstm():
    return LanguageModel(), torch.arange(2 * STEPS).reshape(2, STEPS) % 20


def scalar(value=0.0):
    return nn.Parameter(torch.full((1,), value))


class FixupBasicBlock(nn.Module):
    """Zhang et al. 2019: a basic block with scalar biases and a multiplier, without norms."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bias1a, self.bias1b, self.bias2a, self.bias2b = (scalar() for _ in range(4))
        self.scale, self.stride = scalar(1.0), stride

    def forward(self, x):
        y = F.relu(self.conv1(x + self.bias1a) + self.bias1b)
        y = self.conv2(y + self.bias2a) * self.scale + self.bias2b
        if self.stride > 1:
            x = F.avg_pool2d(x + self.bias1a, 1, self.stride)
            x = torch.cat((x, torch.zeros_like(x)), 1)
        return F.relu(y + x)


class FixupBottleneck(nn.Module):
    """The same with three convolutions, and a projection where the width changes."""

    def __init__(self, inputs, width, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bias1a, self.bias1b, self.bias2a, self.bias2b = (scalar() for _ in range(4))
        self.bias3a, self.bias3b, self.scale = scalar(), scalar(), scalar(1.0)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.conv1(x + self.bias1a) + self.bias1b)
        y = F.relu(self.conv2(y + self.bias2a) + self.bias2b)
        y = self.conv3(y + self.bias3a) * self.scale + self.bias3b
        if self.downsample is not None:
            x = self.downsample(x + self.bias1a)
        return F.relu(y + x)


class FixupNet(nn.Module):
    def __init__(self, *blocks, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bias1, self.bias2 = scalar(), scalar()
        self.layers, self.fc = nn.Sequential(*blocks), nn.Linear(width, 10)

    def forward(self, x):
        x = self.layers(F.relu(self.conv1(x) + self.bias1))
        return self.fc(x.mean((2, 3)) + self.bias2)


def fixup():
    blocks = FixupBasicBlock(8, 8), FixupBasicBlock(8, 16, 2), FixupBasicBlock(16, 16)
    return FixupNet(*blocks, width=16), torch.randn(2, 3, 8, 8)


def fixup_bottleneck():
    blocks = FixupBottleneck(8, 4, 16), FixupBottleneck(16, 4, 16), FixupBottleneck(16, 8, 32, 2)
    return FixupNet(*blocks, width=32), torch.randn(2, 3, 8, 8)


class ReZeroLayer(nn.Module):
    """Bachlechner et al. 2020: one α for both branches of a transformer layer, no norms."""

    def __init__(self, width=16, hidden=32):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.resweight = scalar(0.5)

    def forward(self, x):
        x = x + self.resweight * self.attention(x, x, x, need_weights=False)[0]
        return x + self.resweight * self.linear2(F.relu(self.linear1(x)))


def rezero():
    return nn.Sequential(ReZeroLayer(), ReZeroLayer(), nn.Linear(16, 5)), torch.randn(2, 4, 16)


def of_log_uniform(high):
    """E[log U] and E[(log U)²] of U(1, high), from ∫log = x·log x − x, and once more by parts."""
    log = math.log(high)
    first = (high * log - high + 1) / (high - 1)
    second = (high * log**2 - 2 * (high * log - high + 1)) / (high - 1)
    return first, second


NORMAL_HE, L = 2**0.5, 3
FORGET = (0.25, math.sqrt(0.25 - 0.25**2))  # a quarter of the biases is 1
RECURRENT = {
    "embed.weight": 1,
    "rnn.weight_hh_l?": 8
    ** -0.5,  # a square orthogonal matrix has 8 entries of mean square 1/8 a row
    "rnn.weight_ih_l0": math.sqrt(2 / (6 + 8)),
    "rnn.weight_ih_l1": math.sqrt(2 / (8 + 8)),
    "rnn.bias_hh_l?": 0,
    "out.weight": math.sqrt(2 / (8 + 20)),
    "out.bias": 0,
}

GOLDEN = {
    "dcgan generator": (generator, {"[036].weight": 0.02, "[14].weight": (1, 0.02), "*.bias": 0}),
    "dcgan discriminator": (
        discriminator,
        {"[025].weight": 0.02, "3.weight": (1, 0.02), "*.bias": 0},
    ),
    "siren": (
        siren,
        {
            "0.linear.weight": 1 / 2 / math.sqrt(3),  # U(±1/n)
            "1.linear.weight": math.sqrt(6 / 16) / 30 / math.sqrt(3),  # U(±√(6/n)/ω)
            "2.linear.weight": math.sqrt(6 / 24) / 30 / math.sqrt(3),
            "3.weight": math.sqrt(6 / 24) / 30 / math.sqrt(3),
            "0.linear.bias": 2**-0.5 / math.sqrt(3),  # U(±1/√n): the reference leaves PyTorch's
            "1.linear.bias": 16**-0.5 / math.sqrt(3),
            "2.linear.bias": 24**-0.5 / math.sqrt(3),
            "3.bias": 24**-0.5 / math.sqrt(3),
        },
    ),
    "lstm": (lstm, {"rnn.bias_ih_l?": FORGET, **RECURRENT}),
    "chrono": (
        lstm,
        # b_f = log U(1, T − 1) and b_i = −b_f, each a quarter of the vector.
        {"rnn.bias_ih_l?": math.sqrt(of_log_uniform(STEPS - 1)[1] / 2), **RECURRENT},
    ),
    "fixup basic": (
        fixup,
        {
            "conv1.weight": NORMAL_HE / math.sqrt(8 * 9),
            "layers.0.conv1.weight": NORMAL_HE / math.sqrt(8 * 9) * L**-0.5,
            "layers.[12].conv1.weight": NORMAL_HE / math.sqrt(16 * 9) * L**-0.5,
            "layers.?.conv2.weight": 0,
            "layers.?.scale": (1, 0),
            "*bias*": 0,
            "fc.weight": 0,
        },
    ),
    "fixup bottleneck": (
        fixup_bottleneck,
        {
            "conv1.weight": NORMAL_HE / math.sqrt(8 * 9),
            "layers.[01].conv1.weight": NORMAL_HE / math.sqrt(4) * L**-0.25,
            "layers.[01].conv2.weight": NORMAL_HE / math.sqrt(4 * 9) * L**-0.25,
            "layers.2.conv1.weight": NORMAL_HE / math.sqrt(8) * L**-0.25,
            "layers.2.conv2.weight": NORMAL_HE / math.sqrt(8 * 9) * L**-0.25,
            "layers.?.conv3.weight": 0,
            "layers.0.downsample.weight": NORMAL_HE / math.sqrt(16),
            "layers.2.downsample.weight": NORMAL_HE / math.sqrt(32),
            "layers.?.scale": (1, 0),
            "*bias*": 0,
            "fc.weight": 0,
        },
    ),
}


@pytest.mark.parametrize("family", GOLDEN)
def test_golden_table_of_a_paper(family):
    build, table = GOLDEN[family]
    model, inputs = build()
    check_table(fanin.plan(model, inputs, family.partition(" ")[0]), table)


def test_rezero_fixes_the_gates_and_leaves_the_rest_to_auto():
    # The paper states α = 0 and no other number.
    model, inputs = rezero()
    plan, auto = fanin.plan(model, inputs, "rezero"), fanin.plan(model, inputs, "auto")
    for name, assignment in plan.items():
        if name.endswith("resweight"):
            assert (assignment.scheme, assignment.std) == (fanin.schemes.Zeros(), 0)
        else:
            assert assignment.scheme == auto[name].scheme, name
    fanin.apply(plan, model)
    assert torch.equal(model[:2](inputs), inputs)


@pytest.mark.parametrize("family", ["fixup", "rezero", "siren"])
def test_the_table_holds_on_the_meta_device_too(family):
    build = {"fixup": fixup, "rezero": rezero, "siren": siren}[family]
    real, inputs = build()
    with torch.device("meta"):
        model, _ = build()
    here, there = fanin.plan(real, inputs, family), fanin.plan(model, inputs, family)
    assert {n: a.std for n, a in here.items()} == {n: a.std for n, a in there.items()}
