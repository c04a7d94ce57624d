"""Advice on stacks with norms and without skips, held against the gradients that autograd gives.

Norms with parameters start so that there is nothing to advise (``test_auto_norm_start``): these
have none.
"""

import re

import pytest
import torch
from torch import nn

import fanin

WIDTH = 64


def batch_norm(width):
    return nn.BatchNorm1d(width, affine=False)


def layer_norm(width):
    return nn.LayerNorm(width, elementwise_affine=False)


def stack(layers, activation, norm):
    parts = [nn.Linear(32, WIDTH)]
    for _ in range(layers - 1):
        parts += [norm(WIDTH), activation(), nn.Linear(WIDTH, WIDTH)]
    return nn.Sequential(*parts, norm(WIDTH), activation(), nn.Linear(WIDTH, 5))


def inputs():
    return torch.randn(256, 32, generator=torch.Generator().manual_seed(0))


def said(model, x):
    return [line for line in fanin.plan(model, x).advice if "without a skip" in line]


def measured(model, activation, x):
    """The gradient's second moment, by the layer, in the middle of a stack of 30."""
    seen = []
    for module in model:
        if isinstance(module, activation):
            module.register_forward_hook(lambda _m, _i, out: seen.append(out))
    generator = torch.Generator().manual_seed(1)
    loss = (model(x) * torch.randn(len(x), 5, generator=generator)).sum()
    first, last = torch.autograd.grad(loss, (seen[4], seen[24]))
    return float((first.square().mean() / last.square().mean()) ** (1 / 20))


@pytest.mark.parametrize(
    ("activation", "norm", "factor"),
    [
        (nn.ReLU, batch_norm, torch.pi / (torch.pi - 1)),
        (nn.Tanh, batch_norm, 1.178),
        (nn.Tanh, layer_norm, 1.178),
        (nn.Sigmoid, layer_norm, 0.1528),
    ],
    ids=["batch norm relu", "batch norm tanh", "layer norm tanh", "layer norm sigmoid"],
)
def test_gradients_change_as_the_advice_says(activation, norm, factor):
    x, model = inputs(), stack(30, activation, norm)
    (line,) = said(model, x)
    named = float(re.search(r"by ([\d.]+) a layer", line).group(1))
    assert named == pytest.approx(factor, rel=1e-3)
    fanin.initialize(model, x)
    # Chance spreads a ratio over 20 layers of width 64 by about √(5·20/64) nats: 6 % a layer.
    assert measured(model, activation, x) == pytest.approx(named, rel=0.1)


@pytest.mark.parametrize(
    ("layers", "activation", "norm"),
    [(8, nn.ReLU, batch_norm), (50, nn.ReLU, layer_norm), (10, nn.Tanh, batch_norm)],
    ids=["shallow", "relu behind layer norm", "shallow tanh"],
)
def test_stacks_that_keep_gradients_are_left_alone(layers, activation, norm):
    assert not said(stack(layers, activation, norm), inputs())


@pytest.mark.parametrize(("layers", "needed"), [(20, False), (50, True)])
def test_skips_are_needed_where_gradients_change_a_thousandfold(layers, needed):
    (line,) = said(stack(layers, nn.ReLU, batch_norm), inputs())
    assert ("needs skips" in line) is needed


def test_convolutions_count_too():
    parts = []
    for _ in range(30):
        parts += [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(64, 3))
    (line,) = said(model, torch.randn(8, 4, 4, 4))
    assert line.startswith("30 layers of batch norm and relu")


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(30))
        self.norms = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(30))

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + torch.relu(norm(layer(x)))
        return x


def test_skips_silence_it():
    assert not said(Skipping(), torch.randn(16, WIDTH))
