"""The activation behind a weight, by module, by function and written out."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fanin.graph import read_roles, record

X = torch.randn(3, 4)


def activation(function):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.second(function(self.first(x)))

    roles = read_roles(record(Net(), X))
    found, before = roles["first.weight"].activation, roles["second.weight"].before
    assert found == before
    return found


NAMED = {
    "relu": [F.relu, lambda x: x.clamp(min=0), lambda x: torch.maximum(x, torch.zeros(())),
             lambda x: x * (x > 0), lambda x: torch.where(x > 0, x, 0.0), nn.ReLU(inplace=True)],
    "gelu": [F.gelu, lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))],
    "gelu_tanh": [
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3)))),
    ],
    "silu": [F.silu, lambda x: x * torch.sigmoid(x), lambda x: x / (1 + torch.exp(-x))],
    "quick_gelu": [lambda x: x * torch.sigmoid(1.702 * x)],
    "mish": [F.mish, lambda x: x * torch.tanh(F.softplus(x))],
    "tanh": [torch.tanh, lambda x: 2 * torch.sigmoid(2 * x) - 1],
    "sigmoid": [torch.sigmoid, lambda x: 1 / (1 + torch.exp(-x))],
    "relu_squared": [lambda x: F.relu(x) ** 2, lambda x: F.relu(x).square()],
    "hardswish": [F.hardswish, lambda x: x * F.relu6(x + 3) / 6],
    "softsign": [F.softsign],
    "tanhshrink": [F.tanhshrink],
    "selu": [F.selu],
    "elu": [F.elu],
    "relu6": [F.relu6],
    "softplus": [F.softplus, lambda x: torch.log1p(torch.exp(x))],
    "logsigmoid": [F.logsigmoid],
    "hardtanh": [F.hardtanh],
    "sin": [torch.sin],
    "linear": [lambda x: x, lambda x: -3 * x + 1, F.dropout, lambda x: x.view(3, 5).clone()],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "function"), [(name, f) for name, some in NAMED.items() for f in some]
)
def test_activations_by_every_spelling(name, function):
    assert activation(function).name == name


def test_parameters_of_activations():
    assert activation(nn.LeakyReLU(0.3)).parameters == {"negative_slope": 0.3}
    assert activation(lambda x: torch.where(x > 0, x, 0.2 * x)).parameters == {
        "negative_slope": 0.2
    }
    assert activation(nn.ELU(0.5)).parameters == {"alpha": 0.5}
    assert activation(lambda x: torch.sin(30 * x)).input_scale == pytest.approx(30)


def test_an_unknown_function_is_called_custom():
    assert activation(lambda x: torch.sin(x) * torch.cos(3 * x)).name == "custom"


def test_a_weight_before_another_weight_is_linear():
    roles = read_roles(record(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2)), X))
    assert roles["0.weight"].activation.name == "linear"
    assert roles["1.weight"].before.name == "linear"


def test_the_activation_behind_a_residual_add():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(F.relu(x + self.a(x)))

    assert read_roles(record(Net(), X))["a.weight"].activation.name == "relu"


def test_a_gate_of_another_signal_is_no_activation_of_its_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            return self.c(F.gelu(self.a(x)) * self.b(x))

    roles = read_roles(record(Net(), X))
    assert roles["a.weight"].activation.name == "gelu"
    assert roles["b.weight"].activation.name == "linear"
    assert roles["c.weight"].before.name == "gelu"


def test_a_layer_norm_makes_the_input_linear_again():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4), nn.Linear(4, 4))
    assert read_roles(record(net, X))["3.weight"].before.name == "linear"
