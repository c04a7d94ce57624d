"""Weights of chains whose norms start for them: orthogonal, and no border shows."""

import math

import pytest
import torch
from torch import nn

import fanin
from fanin.schemes import DeltaOrthogonal, Orthogonal

CHANNELS, DEPTH = 8, 40


def chain(conv=nn.Conv2d, norm=nn.BatchNorm2d, activation=nn.ReLU, **settings):
    settings = {"kernel_size": 3, "padding": 1, **settings}
    layers = [nn.Conv2d(3, CHANNELS, 3, padding=1), norm(CHANNELS), activation()]
    for _ in range(DEPTH - 1):
        layers += [conv(CHANNELS, CHANNELS, **settings), norm(CHANNELS), activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 5))


def images(side=6):
    return torch.randn(64, 3, side, side, generator=torch.Generator().manual_seed(0))


def pattern(model):
    """The share of the signal behind the last norm that all samples have in common."""
    with torch.no_grad():
        h = model[:-4](images())
    return (h.mean(0).var((1, 2), unbiased=False).mean() / h.var((0, 2, 3)).mean()).item()


def test_the_border_does_not_take_the_signals_place():
    model = chain()
    plan = fanin.initialize(model, images(), "auto")
    assert plan["1.bias"].scheme.value > 0.5
    assert isinstance(plan["3.weight"].scheme, DeltaOrthogonal)
    assert not isinstance(plan["0.weight"].scheme, DeltaOrthogonal)
    # The mean over 64 samples of noise leaves 1/64 of it, and the first layer's border a little.
    assert pattern(model) < 0.2
    for layer in model:
        if isinstance(layer, nn.Conv2d) and layer.in_channels == CHANNELS:
            nn.init.kaiming_normal_(layer.weight)
    assert pattern(model) > 0.5


def test_it_is_as_large_as_he():
    plan = fanin.plan(chain(), images())
    assert plan["3.weight"].std == pytest.approx(math.sqrt(2 / (9 * CHANNELS)))


def test_dense_weights_and_those_of_one_place_are_orthogonal_and_as_large_as_he():
    plan = fanin.plan(chain(kernel_size=1, padding=0), images())
    assert isinstance(plan["3.weight"].scheme, Orthogonal)
    widths = [(32, 48), (48, 24)]
    layers = [nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU()]
    for inputs, outputs in [(32, 32)] * 20 + widths + [(24, 24)] * 20:
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(24, 5))
    fanin.initialize(model, torch.randn(64, 16), "auto")
    for k, inputs in ((3, 32), (63, 32), (66, 48)):
        wide = torch.linalg.svdvals(model[k].weight.detach())
        assert wide == pytest.approx(wide.mean().expand_as(wide), rel=1e-4)
        power = model[k].weight.detach().square().mean().item()
        assert power * inputs == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize(
    "model",
    [chain(groups=CHANNELS), chain(norm=lambda n: nn.BatchNorm2d(n, affine=False))],
    ids=["depthwise", "norms without parameters"],
)
def test_other_convolutions_keep_he(model):
    plan = fanin.plan(model, images())
    assert plan["3.weight"].reason == "meets relu: He"


def test_strides_and_fewer_outputs_keep_theirs():
    model = chain()
    model[30] = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1)
    model[60] = nn.Conv2d(CHANNELS, 6, 3, padding=1)
    model[61], model[63] = nn.BatchNorm2d(6), nn.Conv2d(6, CHANNELS, 3, padding=1)
    plan = fanin.plan(model, images(12))
    kept = list(range(3, 3 * DEPTH, 3))
    taken = [k for k in kept if isinstance(plan[f"{k}.weight"].scheme, DeltaOrthogonal)]
    assert sorted(set(kept) - set(taken)) == [30, 60]
