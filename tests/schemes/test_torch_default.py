"""PyTorchDefault against what torch's own layers draw."""

import math

import pytest
import torch
from torch import nn

from fanin.axes import dense_axes
from fanin.randomness import Address
from fanin.schemes import torch_defaults

LAYERS = {
    "linear": lambda: nn.Linear(37, 501),
    "bilinear": lambda: nn.Bilinear(7, 11, 301),
    "conv1d": lambda: nn.Conv1d(6, 400, 3),
    "conv2d": lambda: nn.Conv2d(6, 400, (3, 2)),
    "depthwise": lambda: nn.Conv2d(400, 400, 3, groups=400),
    "conv3d": lambda: nn.Conv3d(4, 200, 2, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(64, 400, 4, stride=2),
    "transposed grouped": lambda: nn.ConvTranspose1d(64, 400, 4, groups=8),
    "embedding": lambda: nn.Embedding(300, 20),
    "embedding bag": lambda: nn.EmbeddingBag(300, 20),
    "rnn": lambda: nn.RNN(10, 60),
    "lstm": lambda: nn.LSTM(10, 60, num_layers=2, bidirectional=True),
    "projected lstm": lambda: nn.LSTM(10, 60, proj_size=20),
    "gru": lambda: nn.GRU(10, 60),
    "lstm cell": lambda: nn.LSTMCell(10, 60),
    "attention": lambda: nn.MultiheadAttention(64, 4, add_bias_kv=True),
    "cross attention": lambda: nn.MultiheadAttention(64, 4, kdim=32, vdim=24),
    "layer norm": lambda: nn.LayerNorm(16),
    "rms norm": lambda: nn.RMSNorm(16),
    "group norm": lambda: nn.GroupNorm(4, 16),
    "batch norm": lambda: nn.BatchNorm2d(16),
    "instance norm": lambda: nn.InstanceNorm2d(16, affine=True),
    "prelu": lambda: nn.PReLU(4, init=0.1),
    "transformer layer": lambda: nn.TransformerEncoderLayer(64, 4, 128),
}


@pytest.mark.parametrize("name", LAYERS)
def test_distribution_is_that_of_torchs_layer(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    named = {}
    for path, module in layer.named_modules():
        for own, scheme in torch_defaults(module).items():
            named[f"{path}.{own}".strip(".")] = scheme
    assert set(named) == {parameter for parameter, _ in layer.named_parameters()}
    for parameter, torchs in layer.named_parameters():
        moments = named[parameter].expected(torchs.shape, dense_axes(torchs.shape))
        values = torchs.detach().double()
        n = values.numel()
        if moments.std == 0:
            assert (values == torch.tensor(moments.mean).float()).all(), parameter
            continue
        # Sample std within five standard errors (kurtosis at most 3), and for a uniform law the
        # greatest value near the bound: it falls short by a share of 20/n with probability e^-10.
        std = values.square().mean().sqrt().item()
        assert abs(std / moments.std - 1) <= 5 * math.sqrt(0.5 / n), parameter
        normal = "embedding" in name or parameter in ("bias_k", "bias_v")
        assert (moments.high is None) == normal
        if moments.high is not None:
            top = values.abs().max().item()
            assert moments.high * (1 - 20 / n) <= top <= moments.high * (1 + 1e-6), parameter


def test_modules_of_the_user_have_none():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

    assert torch_defaults(Own()) == {}
    assert torch_defaults(nn.ReLU()) == {}


def test_no_bias_no_entry():
    assert list(torch_defaults(nn.Linear(3, 4, bias=False))) == ["weight"]
    assert torch_defaults(nn.BatchNorm1d(4, affine=False)) == {}


def test_schemes_draw_what_they_promise():
    layer = nn.LSTM(10, 60)
    for name, scheme in torch_defaults(layer).items():
        parameter = getattr(layer, name)
        scheme.fill(parameter, dense_axes(parameter.shape), Address(0, name))
        assert parameter.abs().max() <= 1 / math.sqrt(60) + 1e-7
