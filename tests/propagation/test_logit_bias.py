"""Biases that are added to the logits of attention, weighed by a gate for every row."""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import predicted_and_measured

SAMPLES, HEADS, TOKENS, N = 8, 4, 64, 128


@pytest.mark.parametrize("strength", [0.05, 0.2])
def test_a_gate_of_a_bias_receives_what_the_bias_has_of_the_logits(strength):
    table = strength * batch(TOKENS, TOKENS)

    def heads(x):
        return x.view(SAMPLES, TOKENS, HEADS, -1).transpose(1, 2).flatten(0, 1)

    def run(m, x):
        q, k, v = (heads(layer(x)) for layer in (m.q, m.k, m.v))
        gate = 1 + 0.3 * torch.tanh(heads(m.g(x)).mean(-1, keepdim=True))
        logits = torch.baddbmm(gate * table, q / q.shape[-1] ** 0.5, k.transpose(1, 2))
        y = logits.softmax(-1) @ v
        return m.o(y.view(SAMPLES, HEADS, TOKENS, -1).transpose(1, 2).flatten(2))

    def build():
        return Module(run, **{name: dense(N, N) for name in "qkvgo"})

    rows = predicted_and_measured(build, batch(SAMPLES, TOKENS, N), 12)
    gates = [row for row in rows if row[0].operation == "tanh"]
    assert gates
    for _, _, _, gradient, truth in gates:
        assert gradient == pytest.approx(truth, rel=0.12)


@pytest.mark.parametrize("heads_apart", [False, True], ids=["in one axis", "apart"])
def test_heads_may_come_apart_between_the_bias_and_the_softmax(heads_apart):
    """As in DeBERTa, which adds to the logits of all heads in one axis and views them as two."""
    samples, tokens = 4, 12
    table = 0.3 * batch(tokens, tokens)

    def heads(x):
        return x.view(samples, tokens, HEADS, -1).transpose(1, 2).flatten(0, 1)

    def run(m, x):
        q, k, v = (heads(layer(x)) for layer in (m.q, m.k, m.v))
        logits = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + table
        if heads_apart:
            logits = logits.view(samples, HEADS, tokens, tokens)
        shares = logits.softmax(-1).view(samples * HEADS, tokens, tokens)
        return m.o((shares @ v).view(samples, HEADS, tokens, -1).transpose(1, 2).flatten(2))

    def build():
        return Module(run, **{name: dense(N, N) for name in "qkvo"})

    rows = predicted_and_measured(build, batch(samples, tokens, N), 16)
    for signal, guess, truth, gradient, measured in rows:
        assert guess == pytest.approx(truth, rel=0.1), signal.operation
        if measured is not None:
            assert gradient == pytest.approx(measured, rel=0.2), signal.operation
