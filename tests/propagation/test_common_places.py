"""Patterns that zeros of padding leave in all samples, and the batch norms that divide by them."""

import numpy as np
import pytest
import torch
from building_blocks import batch
from torch import nn

import fanin
from fanin.propagation.algebra import centred_pairs
from fanin.propagation.common_places import Mode, left_by_norm, spread_of_modes
from fanin.propagation.layout import plain_axes
from fanin.propagation.state import gaussian


def chain(layers: int, channels: int, stride_at: int = -1, *, depthwise: bool = False):
    parts: list[nn.Module] = []
    for k in range(layers):
        groups = channels if depthwise and k % 2 else 1
        stride = 2 if k == stride_at else 1
        conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=groups, bias=False)
        parts += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*parts)


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (chain(8, 48), 6),
        (chain(8, 48, stride_at=4), 10),
        (chain(8, 48, depthwise=True), 7),
    ],
    ids=["convolutions", "a stride", "depthwise"],
)
def test_patterns_of_padding_behind_shifted_norms(net, size):
    """Samples grow as alike as they are, and gradients as large, while norms send a mean on."""
    x = batch(12, 48, size, size)
    overrides = {
        name: fanin.schemes.Constant(1.0) if name.endswith("bias") else fanin.schemes.Kaiming()
        for name, p in net.named_parameters()
        if name.endswith("bias") or p.dim() > 1
    }
    plan = fanin.plan(net, x, overrides=overrides)
    predicted = fanin.predict(net, x, plan)
    runs = []
    for seed in range(6):
        fanin.apply(plan, net, seed=seed)
        runs.append(fanin.measure(net, x))
    for tensor, signal in predicted.tensors.items():
        if signal.operation != "native_batch_norm" or signal.shape != (12, 48, *signal.shape[2:]):
            continue
        seen = [run.tensors[tensor] for run in runs]
        alike = sum(s.correlation for s in seen) / len(seen)
        assert signal.correlation == pytest.approx(alike, abs=0.04)
        gradient = (sum(s.gradient_rms**2 for s in seen) / len(seen)) ** 0.5
        assert signal.gradient_rms == pytest.approx(gradient, rel=0.15)


def test_shares_of_a_channel_by_sampling():
    """E[λ z²/Σ λ z²] of few directions and many, against drawn channels."""
    samples, places, few, power = 6, 9, 2, 0.6
    axes = plain_axes((samples, 4, places))
    # A pattern of mean 0 over the places, and numbers of each sample's own of power 1.
    pairs = np.zeros((2, 2, 2))
    pairs[0, 0, 0], pairs[0, 0, 1] = 1 + power, -power / (places - 1)
    pairs[1, 0, 0], pairs[1, 0, 1] = power, -power / (places - 1)
    pairs = centred_pairs(pairs, axes, (0, 2))
    # Eigenvalues times how many there are: of the pattern's places each sample's own has a part.
    powers = {
        (1, 0, 0): samples * places * power + places - 1,
        (0, 0, 0): (samples - 1.0) * (places - 1),
        (0, 0, 1): samples - 1.0,
    }
    counts = {(1, 0, 0): few, (0, 0, 0): (samples - 1) * (places - 1), (0, 0, 1): samples - 1}
    total = sum(powers.values())
    assert samples * places * pairs[0, 0, 0] == pytest.approx(total)
    modes = [Mode(k, powers[k] / total, counts[k], common=k[0] == 1) for k in powers]
    left = left_by_norm(pairs, gaussian(axes, 0.0, pairs), (0, 2), modes, weights=0.0)
    generator = torch.Generator().manual_seed(0)
    drawn = [
        mode.share * torch.randn(100000, int(mode.directions), generator=generator).square().mean(1)
        for mode in modes
    ]
    whole = sum(drawn)
    common = float((drawn[0] / whole).mean())
    eigen = left[0, 0, 0] - left[0, 0, 1] + (samples - 1) * (left[1, 0, 0] - left[1, 0, 1])
    shared = eigen * (places - 1) / (samples * places * left[0, 0, 0])
    assert shared == pytest.approx(common, rel=0.01)
    assert common < 0.95 * modes[0].share
    assert spread_of_modes(modes) == pytest.approx(float((whole / whole.mean()).var()), rel=0.03)
