"""Attention over tokens of one length that vary in few directions only, against sampling.

For 5 directions Σ a² is 0.7 of what rows of Gaussian logits have; tolerances are what 4 samples of
96 tokens and 16 draws leave of it.
"""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import predicted_and_measured
from torch.nn import functional as F  # noqa: N812

TOKENS, WIDTH = 96, 128


def network(few, fused=False):
    def heads(x):
        return x.view(-1, TOKENS, 2, WIDTH // 2).transpose(1, 2)

    def run(m, x):
        h = F.layer_norm(m.up(F.layer_norm(x, (few,))), (WIDTH,))
        q, k, v = (heads(layer(h)) for layer in (m.q, m.k, m.v))
        if fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        return m.o(y.transpose(1, 2).flatten(2))

    return Module(run, up=dense(few, WIDTH), **{name: dense(WIDTH, WIDTH) for name in "qkvo"})


@pytest.mark.parametrize("few", [6, 14])
def test_no_key_takes_what_one_of_gaussian_logits_would(few):
    rows = predicted_and_measured(lambda: network(few), batch(4, TOKENS, few), 16)
    shares = next(row for row in rows if row[0].operation == "_softmax")
    logits = next(row for row in rows if row[0].operation == "div")
    assert shares[1] == pytest.approx(shares[2], rel=0.04)
    assert logits[3] == pytest.approx(logits[4], rel=0.1)


def test_attention_that_runs_whole_knows_too():
    rows = predicted_and_measured(lambda: network(6, fused=True), batch(4, TOKENS, 6), 16)
    queries = [row for row in rows if row[0].module in ("q", "k") and row[0].operation == "mm"]
    assert len(queries) == 2
    for signal, _, _, gradient, truth in queries:
        assert gradient == pytest.approx(truth, rel=0.12), signal


def test_tokens_that_keep_their_lengths_lie_on_no_sphere():
    def run(m, x):
        return (m.q(x) @ m.k(x).transpose(-1, -2) / 8).softmax(-1)

    def build():
        return Module(run, q=dense(6, 64), k=dense(6, 64))

    torch.manual_seed(0)
    rows = predicted_and_measured(build, batch(64, 16, 6), 4)
    shares = next(row for row in rows if row[0].operation == "_softmax")
    assert shares[1] == pytest.approx(shares[2], rel=0.1)
