"""Lengths that a model reads from its own signals: the recorded one is known, against running it.

What a prediction says of a run of so many frames is compared with other draws of the weights that
happen to give as many.
"""

import pytest
import torch
from building_blocks import Module, batch, dense
from torch.nn.functional import pad

import fanin

TOKENS, N = 5, 48


def spoken(m, x):
    durations = torch.ceil(2 * torch.exp(m.lengths(x) / 2)).squeeze(-1)
    frames = durations.sum(-1).long()
    at = torch.arange(int(frames.max()))
    there = (at < frames.unsqueeze(-1)).to(x.dtype)
    before = (at < durations.cumsum(-1).unsqueeze(-1)).to(x.dtype)
    aligned = (before - pad(before, [0, 0, 1, 0])[:, :-1]).transpose(1, 2) * there.unsqueeze(-1)
    return m.out(torch.tanh(aligned @ m.values(x)))


def drawn(seed):
    torch.manual_seed(seed)
    return Module(spoken, lengths=dense(N, 1), values=dense(N, N), out=dense(N, N))


def product_of(signals):
    return next(s for s in signals.tensors.values() if s.operation == "bmm")


def received(signals):
    return next(row.gradient_rms for row in signals.layers if row.module == "values")


@pytest.mark.parametrize("samples", [1, 3])
def test_frames_add_up_to_the_recorded_length(samples):
    x = batch(samples, TOKENS, N)
    runs = {seed: fanin.measure(drawn(seed), x) for seed in range(150)}
    lengths = {seed: product_of(run).shape[1] for seed, run in runs.items()}
    ordered = sorted(lengths, key=lengths.get)
    # A long run and a short one, far from what the weights give on average.
    for seed in (ordered[15], ordered[-15]):
        alike = [s for s in runs if abs(lengths[s] - lengths[seed]) <= 1]
        assert len(alike) >= 4
        predicted = fanin.predict(drawn(seed), x)
        found = product_of(predicted)
        assert found.shape[1] == lengths[seed]
        rms, gradient = (
            (sum(getattr(product_of(runs[s]), name) ** 2 for s in alike) / len(alike)) ** 0.5
            for name in ("rms", "gradient_rms")
        )
        assert found.rms == pytest.approx(rms, rel=0.12)
        assert found.gradient_rms == pytest.approx(gradient, rel=0.12)
        assert any(f"a length of {lengths[seed]} " in note for note in predicted.notes)
    assert lengths[ordered[-15]] > 1.3 * lengths[ordered[15]]


def test_values_receive_as_many_frames_as_their_tokens_have():
    x = batch(1, TOKENS, N)
    runs = {seed: fanin.measure(drawn(seed), x) for seed in range(150)}
    lengths = {seed: product_of(run).shape[1] for seed, run in runs.items()}
    ordered = sorted(lengths, key=lengths.get)
    gradients = []
    for seed in (ordered[10], ordered[-10]):
        alike = [s for s in runs if abs(lengths[s] - lengths[seed]) <= 1]
        squares = [received(runs[s]) ** 2 for s in alike]
        found = received(fanin.predict(drawn(seed), x))
        assert found == pytest.approx((sum(squares) / len(squares)) ** 0.5, rel=0.15)
        gradients.append(found)
    # Each token receives the sum of what its frames send.
    assert gradients[1] > 1.1 * gradients[0]


def test_numbers_that_weights_have_no_part_in_are_left():
    def run(m, x):
        return m.a(x)[: int(torch.arange(7).sum()) // 3]

    predicted = fanin.predict(Module(run, a=dense(N, N)), batch(9, N))
    assert not any("length" in note for note in predicted.notes)
