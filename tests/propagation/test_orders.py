"""Positions that are given to durations: which one a place belongs to, against running it.

Durations of 5 tokens are rounded exponentials, so that the number of frames changes with the
weights; 60 frames are long enough for nearly all of them, and what lies behind the last is masked.
"""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import predicted_and_measured

TOKENS, FRAMES, N = 5, 60, 64


def aligned(m, x):
    durations = torch.ceil(2 * torch.exp(m.lengths(x) / 2)).squeeze(-1)
    ends = durations.cumsum(-1).unsqueeze(-1)
    before = (torch.arange(FRAMES, dtype=x.dtype) < ends).to(x.dtype)
    earlier = torch.nn.functional.pad(before, [0, 0, 1, 0])[:, :-1]
    return (before - earlier).transpose(1, 2) @ m.values(x)


def network():
    return Module(aligned, lengths=dense(N, 1), values=dense(N, N))


def test_a_place_belongs_to_one_duration():
    rows = predicted_and_measured(network, batch(8, TOKENS, N), draws=40)
    seen = {}
    for signal, rms, truth, gradient, gradient_truth in rows:
        if signal.operation in ("sub", "bmm") or signal.shape == (8 * TOKENS, N):
            seen[signal.operation] = signal
            where = f"{signal.operation} {signal.shape}"
            assert rms == pytest.approx(truth, rel=0.05), where
            if gradient_truth is not None:
                assert gradient == pytest.approx(gradient_truth, rel=0.1), where
    assert {"sub", "bmm", "mm"} <= set(seen)
    assert seen["sub"].sampled
    # One token of five at most, and none behind the last frame.
    assert seen["sub"].rms < TOKENS**-0.5
