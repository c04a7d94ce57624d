"""Correlations of places that stray where features are few, against sampling."""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation.taps import shared_taps


def conv(inputs, outputs, kernel=3, **settings):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **settings)


def ratios(build, inputs, operation, draws=24):
    """Predicted over measured gradient RMS of an operation's first outputs, in running order."""
    torch.manual_seed(0)
    model = build()
    plan = fanin.plan(model, inputs, "he_normal")
    squares = []

    def gradients(signals):
        return [s.gradient_rms for s in signals.tensors.values()
                if s.operation == operation and s.gradient_rms is not None]  # fmt: skip

    for seed in range(draws):
        fanin.apply(plan, model, seed=seed)
        squares.append(np.square(gradients(fanin.measure(model, inputs))))
    return np.array(gradients(fanin.predict(model, inputs, plan))) / np.sqrt(np.mean(squares, 0))


def test_norms_behind_a_narrow_layer():
    """Of 64 places no more than 10 directions are left: the norm divides by less."""

    def run(m, x):
        return m.n(m.c(F.relu(m.b(m.a(x)))))

    found = ratios(
        lambda: Module(run, a=conv(12, 10, 1), b=conv(10, 96, 1), c=conv(96, 64, 1),
                       n=nn.BatchNorm2d(64)),
        batch(16, 12, 2, 2), "convolution",
    )  # fmt: skip
    assert np.allclose(found, 1, atol=0.07)


@pytest.mark.parametrize("narrow", [12, 32])
def test_chains_of_norms_behind_narrow_layers(narrow):
    def run(m, x):
        x = F.silu(m.n1(m.a(x)))
        x = F.silu(m.n2(m.b(x)))
        return m.n3(m.c(x))

    found = ratios(
        lambda: Module(run, a=conv(12, 80), b=conv(80, narrow, 1), c=conv(narrow, 80),
                       n1=nn.BatchNorm2d(80), n2=nn.BatchNorm2d(narrow), n3=nn.BatchNorm2d(80)),
        batch(8, 12, 3, 3), "convolution",
    )  # fmt: skip
    assert np.allclose(found, 1, atol=0.06)


def test_streams_keep_how_they_stray():
    """A residual branch reads the stream: its chance correlations are the stream's."""

    def run(m, x):
        x = m.a(x)
        for block in m.blocks:
            x = x + block(x)
        return m.n(m.c(x))

    found = ratios(
        lambda: Module(run, a=nn.Sequential(conv(6, 16, 1), conv(16, 64, 1)), c=conv(64, 64, 1),
                    n=nn.BatchNorm2d(64), blocks=nn.ModuleList(conv(64, 64, 1) for _ in range(3))),
        batch(12, 6, 2, 2), "convolution", draws=40,
    )  # fmt: skip
    assert np.allclose(found, 1, atol=0.1)


@pytest.mark.parametrize("settings", [(9, 9, 3, 1, 1, 1), (8, 4, 3, 2, 1, 1), (5, 5, 5, 1, 2, 1)])
def test_shared_taps_by_counting(settings):
    size, out, taps, stride, padding, dilation = settings
    read = [{t for t in range(taps) if 0 <= p * stride - padding + t * dilation < size}
            for p in range(out)]  # fmt: skip
    pairs = [len(a & b) / (len(a) * len(b)) for a in read for b in read]
    assert np.isclose(shared_taps(*settings), np.mean(pairs))
