"""Powers place by place: class tokens, borders, masks, causal rows and what a tensor is divided by.

Truth is running the model, weights redrawn; tolerances as in ``test_families``.
"""

import numpy as np
import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import forward_only, predicted_and_measured
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.propagation import profile as profiles
from fanin.propagation.contraction import contract
from fanin.propagation.layout import plain_axes
from fanin.propagation.state import gaussian, independent, overlaps


@pytest.mark.parametrize(
    ("given", "made"),
    [((4, 6), (24,)), ((24,), (4, 6)), ((2, 6, 5), (12, 5)), ((2, 3, 4), (2, 12)),
     ((6, 1, 4), (2, 3, 2, 2)), ((3, 4), (3, 1, 4))],
)  # fmt: skip
@pytest.mark.parametrize("even", [(), (0,), (-1,)], ids=["full", "first", "last"])
def test_profiles_are_reshaped_as_their_tensors_are(given, made, even):
    rng = np.random.default_rng(0)
    shape = list(given)
    for axis in even:
        shape[axis] = 1
    profile = rng.uniform(0.5, 2, shape)
    found = profiles.reshaped(profile, given, made)
    assert found is not None
    truth = np.broadcast_to(profile, given).reshape(made)
    np.testing.assert_allclose(np.broadcast_to(found, made), truth)


def test_shapes_that_share_no_factors_lose_their_profile():
    assert profiles.reshaped(np.ones((6, 4)), (6, 4), (8, 3)) is None


def test_even_axes_are_shortened_and_the_mean_is_one():
    powers = np.outer([1.0, 2.0, 3.0], np.ones(5))
    profile, mean = profiles.settled(powers)
    assert profile.shape == (3, 1)
    assert mean == pytest.approx(2.0)
    assert profile.mean() == pytest.approx(1.0)
    assert profiles.settled(np.full((3, 4), 7.0)) == (None, 7.0)


def test_sums_of_what_is_never_there_at_once_add_in_squares():
    one, two = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    profile, q = profiles.added(one, two, (0.5, 0.5), 0.25, 1)
    assert profile is None
    assert q == pytest.approx(1.0)


def test_a_class_token_keeps_a_power_of_its_own():
    def run(m, x):
        token = m.token.expand(len(x), 1, N)
        h = torch.cat([token, m.a(x)], dim=1)
        h = h + m.c(F.gelu(m.b(F.layer_norm(h, (N,)))))
        return m.head(h[:, 0]), h[:, 1:].mean(1)

    def build():
        token = nn.Parameter(0.1 * torch.randn(1, 1, N))
        return Module(run, token=token, a=dense(), b=dense(), c=dense(), head=dense())

    # All samples share the token's path: three matrices off by 4 % each, over 8 draws, is 2.7 %.
    forward_only(build, batch(8, 15, N), forward=0.12)


def test_rows_of_causal_attention_see_different_numbers_of_keys():
    def run(m, x):
        q, k, v = (layer(x).unflatten(-1, (4, -1)).transpose(1, 2) for layer in (m.q, m.k, m.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        y = m.o(y)
        return y[:, 0], y[:, -1], y.square()

    forward_only(
        lambda: Module(run, q=dense(), k=dense(), v=dense(), o=dense()), batch(8, 24, N),
        forward=0.07, skip=("_scaled_dot_product_flash_attention_for_cpu",),
    )  # fmt: skip


def test_borders_of_padded_images_are_weaker():
    # Stride 2 reads a corner, one edge or the inside: not the mean of a 4 × 4 image.
    forward_only(
        lambda: nn.Sequential(nn.Conv2d(64, 128, 3, padding=1, bias=False),
                              nn.Conv2d(128, 64, 1, stride=4, bias=False)),
        batch(16, 64, 4, 4),
    )  # fmt: skip
    forward_only(
        lambda: nn.Sequential(nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.ReLU(),
                              nn.ZeroPad2d(1), nn.Conv2d(128, 128, 3, groups=128, bias=False)),
        batch(16, 64, 4, 4),
    )  # fmt: skip


@pytest.mark.parametrize("includes", [True, False])
def test_windows_at_borders_average_fewer(includes):
    def run(m, x):
        h = m.a(x)
        return m.pool(h) - h

    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=includes)
    forward_only(lambda: Module(run, a=nn.Conv2d(64, 128, 1), pool=pool), batch(8, 64, 4, 4))


def test_padding_rows_of_an_embedding_count_as_often_as_they_are_read():
    ids = torch.arange(64).reshape(4, 16)
    ids[:, 8:] = 0
    forward_only(
        lambda: Module(lambda m, i: m.a(m.table(i))[:, -1] + m.a(m.table(i))[:, 0],
                       table=nn.Embedding(80, N, padding_idx=0), a=dense()),
        ids,
    )  # fmt: skip


@pytest.mark.parametrize("size", [4, 64])
def test_a_tensor_divided_by_its_own_length_has_it(size):
    forward_only(
        lambda: Module(lambda m, x: F.normalize(m.a(x).unflatten(-1, (-1, size)), dim=-1),
                       a=dense()),
        batch(64, N), skip=("clamp_min", "linalg_vector_norm", "div", "expand")[:2],
    )  # fmt: skip


def test_an_rms_norm_of_four_numbers_written_out():
    def run(m, x):
        h = m.a(x).unflatten(-1, (-1, 4))
        return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)

    forward_only(lambda: Module(run, a=dense()), batch(64, N), skip=("pow", "mean", "add", "rsqrt"))


def test_a_norm_written_out_divides_each_place_by_its_own_power():
    # The first of 8 causal averages has 8 times the power of the last: E[1/s²], E[g²/s⁴] by place.
    def run(m, x):
        a, b, c = (layer(x)[:, None] for layer in (m.a, m.b, m.c))
        h = F.scaled_dot_product_attention(a, b, c, is_causal=True)[:, 0]
        return m.d(h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6))

    def build():
        return Module(run, a=dense(), b=dense(), c=dense(), d=dense())

    rows = predicted_and_measured(build, batch(8, 8, N))
    norm = [row for row in rows if row[0].operation in ("rsqrt", "mean", "pow")]
    assert len(norm) == 3
    for _, rms, truth, gradient, gradient_truth in norm:
        assert rms == pytest.approx(truth, rel=0.06)
        assert gradient == pytest.approx(gradient_truth, rel=0.15)


def test_response_normalisation_squares_what_is_large():
    # x·‖x‖ over a single place is |x|·x: E[x⁴] = 3, not 1.
    def run(m, x):
        h = m.a(x)[:, None]
        return h * torch.linalg.vector_norm(h, dim=1, keepdim=True)

    signals = fanin.predict(Module(run, a=dense()), batch(64, N))
    assert signals.tensors[max(signals.tensors)].rms == pytest.approx(3**0.5, rel=0.03)


def test_the_exponential_of_a_product_with_a_negative_constant_stays_below_one():
    rates = -torch.arange(1.0, 5.0)

    def run(m, x):
        return torch.exp(F.softplus(m.a(x))[..., None] * m.rates)

    def build():
        model = Module(run, a=dense())
        model.register_buffer("rates", rates.clone())
        return model

    forward_only(build, batch(64, N))


def test_masks_written_in_parts_are_seen_by_the_softmax():
    def run(m, x):
        scores = (m.q(x) @ m.k(x).transpose(1, 2)) / N**0.5
        never = torch.full_like(scores[:, :, :8], float("-inf"))
        scores[:, :, :8] = never
        return m.o(scores.softmax(-1) @ m.v(x))

    def build():
        return Module(run, q=dense(), k=dense(), v=dense(), o=dense())

    def shares(signals):
        return next(s.rms for s in signals.tensors.values() if s.operation == "_softmax")

    with torch.no_grad():
        found = shares(fanin.predict(build(), batch(4, 24, N)))
        # One draw's logits, and with them Σ a², differ by some percent from the next one's.
        squares = [shares(fanin.measure(build(), batch(4, 24, N))) ** 2 for _ in range(12)]
    assert found == pytest.approx(np.mean(squares) ** 0.5, rel=0.05)


def test_windows_that_padding_empties_ask_for_nothing():
    # 36 windows of 36 places: their logits have 36³ powers, fewer than are told apart.
    def run(m, x):
        x = F.pad(x, (0, 0, 0, 8, 0, 8)).unflatten(1, (6, 6)).unflatten(3, (6, 6))
        x = x.transpose(2, 3).reshape(36, 36, N)
        return torch.bmm(m.q(x), m.k(x).transpose(1, 2))

    layers = lambda: {"q": dense(), "k": dense()}  # noqa: E731
    inputs = batch(1, 28, 28, N)
    forward_only(lambda: Module(run, **layers()), inputs, draws=8)


@pytest.mark.parametrize("shift", [0.0, 0.3], ids=["of mean 0", "with a mean"])
def test_features_that_two_towers_write_apart_have_no_product(shift):
    """Weights that stand there have a mean, by chance or not: rows of zeros stay zeros."""
    generator = torch.Generator().manual_seed(3)
    one, two = (nn.Linear(24, 12, bias=False) for _ in range(2))
    with torch.no_grad():
        for layer, empty in ((one, slice(0, 6)), (two, slice(6, 12))):
            layer.weight.copy_(torch.randn(12, 24, generator=generator) / 5 + shift)
            layer.weight[empty] = 0.0

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = one, two

        def forward(self, x, y):
            return self.one(x.relu()) @ self.two(y.relu()).T

    x, y = (torch.randn(10, 24, generator=generator) for _ in range(2))
    found = fanin.predict(Towers(), (x, y))
    last = found.tensors[max(found.tensors)]
    assert last.rms == 0.0
    mapped = [s for s in found.tensors.values() if s.operation == "relu"]
    assert len(mapped) == 2
    assert all(s.gradient_rms == 0.0 for s in mapped)


def test_pairs_of_different_terms_meet_the_roots_of_both_powers():
    """Σ x w of means: where the first features are strong in both, so are their products."""

    def uneven(shape, level, powers):
        """√power (level + z)."""
        roots = np.sqrt(powers)
        pairs = independent(shape, level, 1.0).pairs * overlaps(roots, plain_axes(shape))
        return gaussian(plain_axes(shape), level * roots.mean(), pairs, profile=powers)

    terms = np.array([4.0, 4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    rows = np.array([0.2, 1.0, 1.8])
    powers = np.multiply.outer(rows, terms / terms.mean())
    one = uneven((3, 8), 1.5, powers)
    two = uneven((8, 5), 0.8, terms[:, None] / terms.mean())
    made = contract(one, two, "ik", "kj", "ij")
    generator = torch.Generator().manual_seed(0)
    x, w = (
        (state.base.mean + state.base.std * torch.randn(8000, *state.shape, generator=generator))
        * torch.from_numpy(np.broadcast_to(np.sqrt(state.profile), state.shape).copy())
        for state in (one, two)
    )
    product = x @ w
    truth = product.square().mean((0, 2)).numpy()
    assert made.second_moment == pytest.approx(float(truth.mean()), rel=0.03)
    profile = np.broadcast_to(made.profile, (3, 5)).mean(axis=1)
    np.testing.assert_allclose(profile, truth / truth.mean(), rtol=0.03)
