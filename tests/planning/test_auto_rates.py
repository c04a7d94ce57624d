"""Learning rates in the advice: held against the curvature that autograd measures."""

import re

import pytest
import torch
from torch import nn

import fanin
from fanin.graph import record
from fanin.planning.auto.shared_places import taps_that_act
from fanin.planning.reading import read_model


def advised(model, x):
    lines = [line for line in fanin.plan(model, x).advice if "learning rate" in line]
    return float(re.search(r"of about ([\d.e-]+)", lines[0]).group(1)) if lines else None


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(1, 1, 0, 1), (3, 1, 1, 1), (5, 1, 2, 1), (3, 2, 1, 1), (3, 1, 2, 2), (3, 1, 0, 1)],
    ids=["1x1", "3x3", "5x5", "strided", "dilated", "unpadded"],
)
def test_taps_that_act_by_brute_force(kernel, stride, padding, dilation):
    convolution = nn.Conv2d(2, 3, kernel, stride, padding, dilation, bias=False)
    x = torch.randn(2, 2, 6, 7)
    # A map of ones: the gradient of the outputs' mean counts the places at which a tap reads one.
    convolution(torch.ones_like(x))[:, 0].mean().backward()
    shares = convolution.weight.grad[0, 0]
    reading = read_model(convolution, record(convolution, x))
    subject = reading.circumstances.subjects["weight"]
    assert taps_that_act(subject, reading.circumstances) == pytest.approx(
        float(shares.square().sum()), rel=1e-5
    )


def test_a_dense_layer_has_one_tap():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    reading = read_model(layer, record(layer, x))
    assert taps_that_act(reading.circumstances.subjects["weight"], reading.circumstances) == 1


def plain(layers, kernel):
    parts = []
    for _ in range(layers):
        parts += [nn.Conv2d(8, 8, kernel, padding=kernel // 2), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def trace(model, x):
    """Σ over the stack's weights of the squared gradient of a logit, over the logit's square."""
    weights = [m.weight for m in model if isinstance(m, nn.Conv2d)][1:]
    logits = model(x)
    total = 0.0
    for k in range(len(x)):
        for g in torch.autograd.grad(logits[k, 0], weights, retain_graph=True):
            total += float(g.square().sum())
    return total / float(logits[:, 0].detach().square().sum())


def test_taps_multiply_the_curvature_of_a_convolutional_stack():
    x = torch.randn(8, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    # One signal at all places: what a tap off the centre reads is then what the centre reads.
    x = x.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4).contiguous() * 4
    found = {}
    for kernel in (1, 3):
        nets = [plain(20, kernel) for _ in range(8)]
        for seed, model in enumerate(nets):
            fanin.initialize(model, x, seed=seed)
        found[kernel] = torch.tensor([trace(model, x) for model in nets]).log().mean().exp()
    # (1 + 2·(3/4)²)² = 4.5 on maps of 4 × 4, whose borders the first layer darkens.
    assert float(found[3] / found[1]) == pytest.approx((1 + 2 * 0.75**2) ** 2, rel=0.35)


def test_convolutions_are_advised_by_their_taps():
    x = torch.randn(64, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    # 0.2923/(30 · 4.516) and 0.2923/30, to one digit
    assert advised(plain(30, 3), x) == 0.002
    assert advised(plain(30, 1), x) == 0.01
    (line,) = fanin.plan(plain(30, 3), x).advice
    assert "T = 4.5" in line


class Single(nn.Module):
    def __init__(self, blocks, activation, layers=1, norm=None, constant=1.0):
        super().__init__()
        self.first, self.last = nn.Linear(32, 32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(*self.parts(activation, layers)) for _ in range(blocks)
        )
        self.norm, self.constant = norm() if norm else nn.Identity(), constant

    @staticmethod
    def parts(activation, layers):
        return [part for _ in range(layers) for part in (activation(), nn.Linear(32, 32))]

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            h = block(self.norm(x))
            x = x + (h if self.constant == 1 else self.constant * h)
        return self.last(x)


X = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({"blocks": 80, "activation": nn.ReLU}, 0.007),  # 0.2923/(80 · 0.5)
        ({"blocks": 80, "activation": nn.GELU}, 0.009),  # 0.2923/(80 · 0.425)
        ({"blocks": 80, "activation": nn.ReLU, "constant": 0.5}, 0.03),  # a quarter of the steps
        ({"blocks": 8, "activation": nn.ReLU}, None),
        ({"blocks": 80, "activation": nn.ReLU, "layers": 2}, None),
        ({"blocks": 80, "activation": nn.ReLU, "norm": lambda: nn.LayerNorm(32)}, None),
    ],
    ids=["relu", "gelu", "scaled", "few", "two layers", "norm"],
)
def test_single_layer_branches(settings, rate):
    assert advised(Single(**settings), X) == rate
