"""Gradients of a residual stream whose rows differ in power from its start, against running it."""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import predicted_and_measured
from torch import nn
from torch.nn import functional as F  # noqa: N812


def normed(x, by_hand):
    if by_hand:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    return F.layer_norm(x, x.shape[-1:])


def stream(width, few, layers, by_hand, blocks="mlp", strength=0.7):
    def run(m, x):
        h = m.start(F.silu(m.narrow(x)))
        for k in range(layers):
            y = normed(h, by_hand)
            if blocks == "mlp":
                y = F.gelu(getattr(m, f"up{k}")(y))
            h = h + strength * getattr(m, f"down{k}")(y)
        return m.head(normed(h, by_hand))

    def build():
        parts = {f"up{k}": dense(width, width) for k in range(layers)}
        parts |= {f"down{k}": dense(width, width) for k in range(layers)}
        return Module(
            run,
            narrow=dense(64, few),
            start=dense(few, width),
            head=dense(width, 64),
            **parts,
        )

    return build


@pytest.mark.parametrize(
    ("width", "few", "layers", "by_hand", "blocks"),
    [(72, 12, 3, False, "mlp"), (72, 12, 3, True, "mlp"), (40, 30, 5, False, "linear")],
)
def test_weak_rows_receive_large_gradients_from_every_norm(width, few, layers, by_hand, blocks):
    build = stream(width, few, layers, by_hand, blocks)
    rows = predicted_and_measured(build, batch(192, 64), draws=60, recipe="lecun_normal")
    sums = [(g, t) for s, _, _, g, t in rows if s.operation == "add" and s.shape == (192, width)]
    assert len(sums) == layers
    for gradient, truth in sums:
        assert gradient == pytest.approx(truth, rel=0.04)
    start = [(g, t) for s, _, _, g, t in rows if s.operation == "mm" and s.shape == (192, width)]
    assert start[0][0] == pytest.approx(start[0][1], rel=0.06)


def test_rows_of_one_power_stay_so():
    """Behind a norm no row is weak: the law has nothing to say."""

    def run(m, x):
        h = F.layer_norm(m.start(x), (32,), eps=1e-6)
        for k in "abc":
            h = h + getattr(m, k)(F.layer_norm(h, (32,)))
        return m.head(F.layer_norm(h, (32,)))

    def build():
        return Module(
            run, start=dense(8, 32), head=dense(32, 32), **{k: dense(32, 32) for k in "abc"}
        )

    rows = predicted_and_measured(build, batch(128, 8), draws=40)
    sums = [(g, t) for s, _, _, g, t in rows if s.operation == "add"]
    assert len(sums) == 3
    for gradient, truth in sums:
        assert gradient == pytest.approx(truth, rel=0.08)


def test_tokens_of_few_channels():
    """A stream that a convolution of few channels starts, tokens side by side."""

    def run(m, x):
        h = m.start(F.silu(m.stem(x))).flatten(2).transpose(1, 2)
        for k in "ab":
            h = h + getattr(m, k)(F.gelu(getattr(m, "u" + k)(F.layer_norm(h, (64,)))))
        return m.head(F.layer_norm(h, (64,)))

    def build():
        stem, start = nn.Conv2d(20, 12, 1, bias=False), nn.Conv2d(12, 64, 1, bias=False)
        for layer in (stem, start):
            nn.init.normal_(layer.weight, std=layer.weight.shape[1] ** -0.5)
        parts = {k: dense(64, 64) for k in ("a", "b", "ua", "ub")}
        return Module(run, stem=stem, start=start, head=dense(64, 64), **parts)

    rows = predicted_and_measured(build, batch(16, 20, 3, 4), draws=60, recipe="lecun_normal")
    sums = [(g, t) for s, _, _, g, t in rows if s.operation == "add"]
    assert len(sums) == 2
    for gradient, truth in sums:
        assert gradient == pytest.approx(truth, rel=0.06)
