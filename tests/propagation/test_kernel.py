"""Kernels with empty taps: convolutions that read fewer places than their kernels are wide."""

import pytest
import torch
from building_blocks import Module, batch
from checks import assert_predicted
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.schemes import DeltaOrthogonal, Mirrored


def shifted(channels: int) -> nn.Module:
    """A batch norm behind which zeros of padding would show."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.bias, 1.5)
    return norm


def on_middle_tap(weight: torch.Tensor, gain: float) -> None:
    matrix = nn.init.orthogonal_(torch.empty(weight.shape[:2]), gain)
    with torch.no_grad():
        weight.zero_()
        weight[(slice(None), slice(None), *(n // 2 for n in weight.shape[2:]))] = matrix


def chain(kernel: int, **settings: int):
    def run(m, x):
        for k in range(4):
            x = F.relu(m.get_submodule(f"n{k}")(m.get_submodule(f"c{k}")(x)))
        return x

    def build():
        convs = {
            f"c{k}": nn.Conv2d(24, 24, kernel, bias=False, **settings if k else {})
            for k in range(4)
        }
        model = Module(run, **convs, **{f"n{k}": shifted(24) for k in range(4)})
        for conv in convs.values():
            on_middle_tap(conv.weight, 2**0.5)
        return model

    return build


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        (3, {"padding": 1}),
        (5, {"padding": 4, "dilation": 2}),
        (3, {"padding": 1, "stride": 2}),
        (3, {"padding": 0}),
        (1, {}),
    ],
    ids=str,
)
def test_middle_taps_never_read_the_border(kernel, settings):
    """A mean that zeros of padding would break goes through; predicted from the weights alone."""
    assert_predicted(chain(kernel, **settings), batch(16, 24, 12, 12), draws=6)


def test_the_plan_says_which_taps_are_empty():
    """From a plan as from weights: samples stay as alike as without padding."""
    net = nn.Sequential(
        nn.Conv2d(20, 40, 3, 1, 1), nn.ReLU(), nn.Conv2d(40, 40, 3, 1, 1), nn.ReLU()
    )
    overrides = {f"{k}.bias": fanin.schemes.Constant(2.0) for k in (0, 2)}
    x = batch(8, 20, 7, 7)

    for scheme in (DeltaOrthogonal(gain=3.0), Mirrored(gain=3.0, mirror="outputs")):
        plan = fanin.plan(net, x, overrides={**overrides, "2.weight": scheme})
        predicted = fanin.predict(net, x, plan)
        runs = []
        for seed in range(12):
            fanin.apply(plan, net, seed=seed)
            runs.append(fanin.measure(net, x))
        last = max(predicted.tensors)
        rms = sum(run.tensors[last].rms ** 2 for run in runs) ** 0.5 / len(runs) ** 0.5
        assert predicted.tensors[last].rms == pytest.approx(rms, rel=0.03)
        # Empty taps receive gradients as the middle one does.
        found = [run.parameters["2.weight"].gradient_rms ** 2 for run in runs]
        truth = (sum(found) / len(found)) ** 0.5
        assert predicted.parameters["2.weight"].gradient_rms == pytest.approx(truth, rel=0.1)


def test_transposed_kernels_on_their_middle_tap():
    def run(m, x):
        return m.b(torch.tanh(m.a(x)))

    def build():
        model = Module(
            run,
            a=nn.ConvTranspose2d(16, 32, 3, stride=2, padding=1, bias=False),
            b=nn.Conv2d(32, 16, 3, padding=1, bias=False),
        )
        on_middle_tap(model.a.weight, 1.0)
        return model

    assert_predicted(build, batch(6, 16, 6, 6), draws=12)
