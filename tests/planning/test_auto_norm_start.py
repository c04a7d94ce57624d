"""Where norms of deep chains start: gradients by autograd, the least shift by quadrature."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

WIDTH = 96


def inputs(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def chain(layers, activation, norm, width=WIDTH):
    parts = [nn.Linear(32, width)]
    for _ in range(layers - 1):
        parts += [norm(width), activation(), nn.Linear(width, width)]
    return nn.Sequential(*parts, norm(width), activation(), nn.Linear(width, 5))


def carried(model, x):
    """Nats by which the gradients of weights grow in size through all norms that start alike.

    Of weights and not of signals, which bear the scale of the norm before them.
    """
    out = model(x)
    toward = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    first, last = torch.autograd.grad((out * toward).sum(), (model[3].weight, model[-7].weight))
    return 0.5 * math.log(first.square().mean() / last.square().mean())


@pytest.mark.parametrize(
    ("layers", "activation", "norm"),
    [
        (20, nn.ReLU, nn.BatchNorm1d),
        (70, nn.ReLU, nn.BatchNorm1d),
        (40, nn.GELU, nn.BatchNorm1d),
        (40, nn.Hardswish, nn.BatchNorm1d),
        (40, nn.Tanh, nn.BatchNorm1d),
        (40, nn.Tanh, nn.LayerNorm),
        (70, nn.GELU, nn.LayerNorm),
    ],
    ids=["relu 20", "relu 70", "gelu", "hardswish", "tanh", "layer norm tanh", "layer norm gelu"],
)
def test_gradients_keep_their_size(layers, activation, norm):
    x, model = inputs(512, 32), chain(layers, activation, norm)
    fanin.initialize(model, x, "auto")
    # 1 nat by the formula; behind batch norms samples come to differ in size, which adds up to 0.5.
    assert abs(carried(model, x)) < 1.6
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and isinstance(model[int(name.split(".")[0])], norm):
            nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
    assert abs(carried(model, x)) > 1.6


def test_convolutions_too():
    layers = []
    for k in range(30):
        layers += [nn.Conv2d(16 if k else 3, 16, 1), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    plan = fanin.plan(model, inputs(16, 3, 8, 8))
    assert plan["1.bias"].scheme.value == plan["85.bias"].scheme.value > 1
    assert plan["88.bias"].reason == "norm bias: 0"


def growth(shift):
    """E[φ′²]/Var φ of relu(x + shift), by Gauss and Hermite's rule on each side of the bend."""
    points, weights = np.polynomial.legendre.leggauss(200)
    x = (points + 1) / 2 * (shift + 10) - shift  # from the bend on
    density = weights * (shift + 10) / 2 * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    mean, power = ((x + shift) * density).sum(), ((x + shift) ** 2 * density).sum()
    return density.sum() / (power - mean**2)


@pytest.mark.parametrize("layers", [10, 25, 60])
def test_the_shift_is_the_least_that_keeps_them(layers):
    plan = fanin.plan(chain(layers, nn.ReLU, nn.BatchNorm1d), inputs(64, 32))
    shift = plan["1.bias"].scheme.value
    assert layers / 2 * math.log(growth(shift)) <= 1 < layers / 2 * math.log(growth(shift - 0.05))
    assert plan["1.weight"].reason == "norm scale: 1"
    reason = f"norm of a chain of {layers} without skips: {shift:g}, where relu is straighter"
    assert plan["1.bias"].reason.startswith(reason)


def starts(model, x):
    plan = fanin.plan(model, x)
    return {name for name in plan if "of a chain" in plan[name].reason}


def test_each_norm_but_the_last_starts_so():
    model, x = chain(20, nn.ReLU, nn.BatchNorm1d), inputs(64, 32)
    assert starts(model, x) == {f"{k}.bias" for k in range(1, 57, 3)}
    assert starts(chain(20, nn.Tanh, nn.BatchNorm1d), x) == {f"{k}.weight" for k in range(1, 57, 3)}


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(30))
        self.norms = nn.ModuleList(nn.BatchNorm1d(32) for _ in range(30))

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.relu(norm(layer(x)))
        return x


class Dense(nn.Module):
    """Each layer's result beside what it read: pairs of layers, and no longer run."""

    def __init__(self):
        super().__init__()
        self.a = nn.ModuleList(nn.Linear(32 + 8 * k, 32) for k in range(12))
        self.b = nn.ModuleList(nn.Linear(32, 8) for _ in range(12))
        self.norms = nn.ModuleList(nn.BatchNorm1d(32 + 8 * k) for k in range(12))
        self.inner = nn.ModuleList(nn.BatchNorm1d(32) for _ in range(12))

    def forward(self, x):
        for a, b, norm, inner in zip(self.a, self.b, self.norms, self.inner, strict=True):
            x = torch.cat((x, b(F.relu(inner(a(F.relu(norm(x))))))), 1)
        return x


def behind(layers):
    """The activation comes before the norm."""
    parts = []
    for k in range(layers):
        parts += [nn.Linear(WIDTH if k else 32, WIDTH), nn.ReLU(), nn.BatchNorm1d(WIDTH)]
    return nn.Sequential(*parts, nn.Linear(WIDTH, 5))


@pytest.mark.parametrize(
    "model",
    [
        chain(4, nn.ReLU, nn.BatchNorm1d),
        chain(50, nn.ReLU, nn.LayerNorm),
        chain(30, nn.ReLU, lambda n: nn.BatchNorm1d(n, affine=False)),
        behind(30),
        Skipping(),
        Dense(),
    ],
    ids=[
        "shallow",
        "relu behind layer norm",
        "norms without parameters",
        "norm behind",
        "skips",
        "dense net",
    ],
)
def test_other_norms_stay(model):
    assert not starts(model, inputs(64, 32))


def test_frozen_and_kept_norms_stay():
    model, x = chain(20, nn.ReLU, nn.BatchNorm1d), inputs(64, 32)
    model[1].bias.requires_grad_(False)
    found = starts(model, x)
    assert "1.bias" not in found
    assert "4.bias" in found
    assert fanin.plan(model, x, keep=["4.*"])["4.bias"].scheme is None


def test_an_authors_bias_stays():
    model, x = chain(20, nn.ReLU, nn.BatchNorm1d), inputs(64, 32)
    nn.init.constant_(model[4].bias, 0.3)
    fanin.initialize(model, x, "auto")
    assert torch.equal(model[4].bias, torch.full((WIDTH,), 0.3))
    assert model[7].bias.unique().item() == pytest.approx(1.1)
    plan = fanin.plan(model, x)
    # What stands after auto's own start is nobody's choice, and is found again.
    assert plan["7.bias"].reason.startswith("norm of a chain")
