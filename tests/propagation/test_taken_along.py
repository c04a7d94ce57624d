"""``gather`` by a known index: pairs and places counted, and masked autoencoders of two sizes."""

import numpy as np
import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import predicted_and_measured
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation.data_moments import pair_moments_of
from fanin.propagation.layout import plain_axes
from fanin.propagation.state import State, gaussian
from fanin.propagation.taken_along import TakenAlong

SAMPLES, LENGTH, FEATURES = 4, 6, 3


def indices(repeated: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randperm(LENGTH, generator=generator)[:4] for _ in range(SAMPLES)]
    index = torch.stack(rows)
    if repeated:
        index[:, 1] = index[:, 0]
    return index[:, :, None].expand(SAMPLES, 4, FEATURES)


def source() -> State:
    pairs = np.zeros((2, 2, 2))
    pairs[0, 0, 0], pairs[1, 0, 0], pairs[0, 1, 0] = 1.0, 0.5, 0.2
    return gaussian(plain_axes((SAMPLES, LENGTH, FEATURES)), 0.0, pairs)


def drawn(runs: int) -> torch.Tensor:
    """Numbers with the moments of ``source``."""
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(runs, 1, LENGTH, FEATURES, generator=g) * 0.5**0.5
    common = torch.randn(runs, SAMPLES, 1, FEATURES, generator=g) * 0.2**0.5
    own = torch.randn(runs, SAMPLES, LENGTH, FEATURES, generator=g) * 0.3**0.5
    return shared + common + own


@pytest.mark.parametrize("repeated", [False, True])
def test_what_is_read_shares_what_its_places_share(repeated):
    index = indices(repeated)
    made = TakenAlong(index, 1, LENGTH).read(source())
    values = drawn(20000)
    read = values.gather(2, index.expand(len(values), *index.shape))
    # 20,000 runs: a moment is off by 1 %, and four of them are the limit.
    assert made.pairs == pytest.approx(pair_moments_of(read.numpy(), runs=1), abs=0.04)


@pytest.mark.parametrize("repeated", [False, True])
def test_gradients_add_up_where_they_were_read(repeated):
    index, generator = indices(repeated), np.random.default_rng(0)
    along = TakenAlong(index, 1, LENGTH)
    # One pair moment for every kind: all gradients are equal, or all are strangers.
    for g in (np.ones(index.shape), generator.standard_normal((4000, *index.shape))):
        runs = torch.from_numpy(g.reshape(-1, *index.shape))
        whole = torch.zeros(len(runs), SAMPLES, LENGTH, FEATURES, dtype=torch.float64)
        whole.scatter_add_(2, index.expand(len(runs), *index.shape), runs)
        truth = pair_moments_of(whole.numpy(), runs=1)
        found = along.sent_back(
            pair_moments_of(runs.numpy(), runs=1), plain_axes(index.shape), source()
        )
        assert found == pytest.approx(truth, abs=0.02)
    profile, factor = along.carry()(None)
    counts = torch.zeros(SAMPLES, LENGTH).scatter_add_(1, index[:, :, 0], torch.ones(SAMPLES, 4))
    assert factor == 1.0
    assert profile[:, :, 0] == pytest.approx(counts.numpy() / counts.mean().item())


def autoencoder(keep: int) -> Module:
    """Keeps tokens by chance, puts zeros for the others, and says something of those."""

    def run(m, x):
        order = torch.rand(x.shape[:2]).argsort(1)
        back = order.argsort(1)
        read = order[:, :keep, None].expand(-1, -1, N)
        kept = m.a(x).gather(1, read)
        missing = torch.zeros(len(x), x.shape[1] - keep, N)
        whole = torch.cat([kept, missing], 1)
        whole = whole.gather(1, back[:, :, None].expand(-1, -1, N))
        masked = torch.ones(x.shape[:2])
        masked[:, :keep] = 0
        masked = masked.gather(1, back)
        stream = whole + 0.1 * m.b(x)
        return m.head(F.layer_norm(stream, (N,))) * masked[:, :, None]

    return Module(run, a=dense(), b=dense(), head=dense(N, 64))


@pytest.mark.parametrize(("length", "keep"), [(12, 3), (9, 6)])
def test_tokens_that_chance_keeps_are_the_same_in_every_operation(length, keep):
    rows = predicted_and_measured(lambda: autoencoder(keep), batch(16, length, N), draws=8)
    checked = 0
    for signal, rms, truth, gradient, gradient_truth in rows:
        if signal.operation not in ("mm", "gather", "cat", "add", "native_layer_norm"):
            continue
        if len(signal.shape) < 2 or truth == 0.0 or signal.shape[-1] == 1:
            continue
        checked += 1
        assert rms == pytest.approx(truth, rel=0.05), signal.operation
        if gradient_truth is not None:
            # The normed tokens' gradient is masked where the strong ones are.
            assert gradient == pytest.approx(gradient_truth, rel=0.1), signal.operation
    assert checked >= 7


def test_places_that_data_choose_are_not_taken_from_one_draw():
    def run(m, x):
        h = m.a(x)
        return h.gather(1, h.abs().argsort(1)[:, :8])

    signals = fanin.predict(Module(run, a=dense()), batch(8, N))
    read = next(s for s in signals.tensors.values() if s.operation == "gather")
    assert read.rms is not None
