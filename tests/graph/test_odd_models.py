"""Models that are written in unusual ways: each records, and its weights are read."""

import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from fanin.graph import Role, read_roles, record

X = torch.randn(3, 4)


class Net(nn.Module):
    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args):
        return self.function(self, *args)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        return x @ w

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient


def autocast(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.linear(x, self.w)


def gradient(self, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(self.a(x).square().sum(), x, create_graph=True)[0]


def called_functionally(self, x):
    tensors = {"weight": self.a.weight * 2, "bias": self.a.bias}
    return torch.func.functional_call(self.a, tensors, (x,))


def standardised(self, x):
    mean, std = self.w.mean(1, keepdim=True), self.w.std(1, keepdim=True)
    return F.linear(x, (self.w - mean) / std)


WRITTEN = {
    "custom function": lambda s, x: Product.apply(x, s.w.t()),
    "vmap": lambda s, x: torch.vmap(lambda row: F.linear(row, s.w))(x),
    "through numpy": lambda s, x: F.linear(torch.from_numpy(x.numpy() * 2), s.w),
    "scaled by a value": lambda s, x: F.linear(x, s.w) * float(x.sum()),
    "standardised": standardised,
    "autocast": autocast,
    "sparse": lambda s, x: torch.sparse.mm(x.to_sparse(), s.w.t()),
    "unfolded": lambda s, x: s.w @ F.unfold(x.view(3, 1, 2, 2), 2),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_one_weight_however_it_is_applied(how):
    net = Net(WRITTEN[how], w=nn.Parameter(torch.randn(5, 4)))
    role = read_roles(record(net, X))["w"]
    assert role.axes.fans((5, 4)).fan_in == 4


def test_gradients_and_functional_calls_inside_forward():
    for function in (gradient, called_functionally):
        roles = read_roles(record(Net(function, a=nn.Linear(4, 5)), X))
        assert roles["a.weight"].axes.inputs == (1,)


def test_packed_sequences():
    inputs = pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    roles = read_roles(record(nn.LSTM(4, 5), (inputs,)))
    assert roles["weight_hh_l0"].role is Role.RECURRENT
    assert roles["weight_hh_l0"].block_names == ("i", "f", "g", "o")


@pytest.mark.parametrize("compiler", [torch.jit.script, lambda m: torch.jit.trace(m, X)])
def test_torchscript(compiler):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = compiler(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert read_roles(record(net, X))["0.weight"].activation.name == "relu"


def test_bayesian_layers_tell_the_mean_from_the_width():
    def forward(self, x):
        return F.linear(x, self.mu + torch.exp(self.rho) * torch.randn(5, 4))

    net = Net(forward, mu=nn.Parameter(torch.randn(5, 4)), rho=nn.Parameter(torch.randn(5, 4)))
    roles = read_roles(record(net, X))
    assert roles["mu"].role is Role.HEAD
    assert roles["rho"].role is Role.GATE


def test_wrappers_and_containers():
    net = nn.DataParallel(Net(lambda s, x: x @ s.p[0] @ s.p[1], p=nn.ParameterList()))
    net.module.p.extend([nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3, 2))])
    roles = read_roles(record(net, X))
    assert [role.axes.inputs for role in roles.values()] == [(0,), (0,)]


def test_models_without_parameters_or_outputs():
    assert read_roles(record(nn.ReLU(), X)) == {}
    roles = read_roles(record(Net(lambda s, x: None, a=nn.Linear(4, 4)), X))
    assert {role.role for role in roles.values()} == {Role.UNUSED}
