"""Tokens that start as zeros stay one vector; sums of two places send both one gradient."""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import predicted_and_measured
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin


def encoder(heads, layers, places, fused=True):
    """Pre-norm layers of attention over two tokens of zeros and what is given; the mean of both."""

    def attend(m, k, x):
        q, key, v = (
            part(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (getattr(m, f"{name}{k}") for name in "qkv")
        )
        if fused:
            y = F.scaled_dot_product_attention(q, key, v)
        else:
            y = (q @ key.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return getattr(m, f"o{k}")(y.transpose(1, 2).flatten(-2))

    def run(m, x):
        h = torch.cat([torch.zeros(len(x), 2, N), m.embed(x)], 1)
        if places is not None:
            h = h + places
        for k in range(layers):
            h = h + attend(m, k, F.layer_norm(h, (N,), eps=1e-5))
            h = h + getattr(m, f"f{k}")(F.gelu(F.layer_norm(h, (N,))))
        return m.head((h[:, 0] + h[:, 1]) / 2)

    def build():
        parts = {f"{name}{k}": dense() for name in "qkvof" for k in range(layers)}
        return Module(run, embed=dense(), head=dense(), **parts)

    return build


@pytest.mark.parametrize(
    ("heads", "layers", "tokens", "fused"), [(2, 2, 9, True), (4, 1, 14, False)]
)
def test_two_tokens_of_zeros_are_one_number(heads, layers, tokens, fused):
    rows = predicted_and_measured(encoder(heads, layers, None, fused), batch(6, tokens, N))
    compared = 0
    for signal, rms, truth, gradient, gradient_truth in rows:
        if signal.operation not in ("mm", "div", "add") or truth == 0.0:
            continue
        compared += 1
        where = f"{signal.operation} {signal.shape}"
        last = signal.shape[:1] == (6,) and len(signal.shape) == 2
        assert rms == pytest.approx(truth, rel=0.05 if last else 0.15), where
        if signal.operation != "mm":
            assert gradient == pytest.approx(gradient_truth, rel=0.12), where
    assert compared >= 8


def test_tokens_told_apart_by_their_places_are_two():
    places = batch(1, 11, N, seed=3)
    rows = predicted_and_measured(encoder(2, 2, places), batch(6, 9, N))
    quotient = next(r for r in rows if r[0].operation == "div")
    assert quotient[1] == pytest.approx(quotient[2], rel=0.08)


@pytest.mark.parametrize("sign", [1, -1])
def test_both_summands_receive_one_gradient(sign):
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = dense()
            self.shift = nn.Parameter(torch.zeros(N))

        def forward(self, x):
            h = self.a(x) + self.shift
            return h[:, 1] + h[:, 3] if sign > 0 else h[:, 1] - h[:, 3]

    torch.manual_seed(0)
    model, x = Shifted(), batch(12, 5, N)
    predicted = fanin.predict(model, x).parameters["shift"].gradient_rms
    measured = fanin.measure(model, x).parameters["shift"].gradient_rms
    # Twice what one place sends, or nothing: √12 · 2 of a direction of unit RMS.
    assert measured == pytest.approx((2 * 12**0.5) if sign > 0 else 0.0, rel=0.1, abs=1e-6)
    assert predicted == pytest.approx(measured, rel=0.1, abs=1e-6)
