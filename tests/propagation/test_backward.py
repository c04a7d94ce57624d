"""Gradients place by place and along the tensor itself, against automatic differentiation.

Weights are N(0, 1/n) with n = 256 and squares are averaged over 8 draws: an RMS over m independent
numbers is off by 1/√(2m), below 2 % for the tensors here.
Sums over features have one number a row: 96 rows × 8 draws leave 2.6 %, and 10 % is four of them.
"""

import numpy as np
import pytest
import torch
from checks import assert_predicted, predicted_and_measured
from test_families import Module, batch, dense
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fanin.propagation import carrying
from fanin.propagation.logit_gradients import along_logits

N = 256


def rows_of(build, inputs, operation, draws=8):
    """Predicted and measured gradient RMS of every tensor that an operation made."""
    return [
        (gradient, truth)
        for signal, _, _, gradient, truth in predicted_and_measured(build, inputs, draws)
        if signal.operation == operation and truth is not None
    ]


def test_a_head_that_reads_one_token_leaves_the_others_without_gradient():
    def run(m, x):
        h = m.a(x) + m.b(F.relu(m.norm(m.a(x))))
        return m.head(F.layer_norm(h, (N,))[:, 0])

    assert_predicted(
        lambda: Module(run, a=dense(), b=dense(), norm=nn.LayerNorm(N), head=dense(N, 64)),
        batch(16, 12, N),
    )


def test_weak_tokens_receive_large_gradients_behind_a_norm():
    def run(m, x):
        token = 0.1 * m.a(x[:, :1])
        return m.head(F.layer_norm(torch.cat([token, m.a(x[:, 1:])], 1), (N,))[:, 0])

    rows = rows_of(lambda: Module(run, a=dense(), head=dense(N, 64)), batch(16, 12, N), "cat")
    for gradient, truth in rows:
        assert gradient == pytest.approx(truth, rel=0.1)


def test_steps_that_no_one_reads_have_no_gradient_at_all():
    def run(m, x):
        steps = [m.a(x[:, t]) for t in range(6)]
        return m.head(torch.stack(steps, 1)[:, 2])

    rows = rows_of(lambda: Module(run, a=dense(), head=dense()), batch(64, 6, N), "mm")
    assert sum(truth == 0.0 for _, truth in rows) == 5
    for gradient, truth in rows:
        assert gradient == pytest.approx(truth, rel=0.1, abs=0.0)


def test_a_gate_and_its_complement_pass_the_gradient_whole():
    # (1 − z)·n + z·h as recurrent cells write it: (h − n)·z + n sends g·(1 − z) to n.
    def run(m, x):
        n, h, z = m.n(x), m.h(x), m.z(x).sigmoid()
        return (h - n) * z + n

    rows = rows_of(lambda: Module(run, n=dense(), h=dense(), z=dense()), batch(64, N), "mm")
    for gradient, truth in rows:
        assert gradient == pytest.approx(truth, rel=0.06)


def root_mean_square_norm(x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize(
    "place", ["gated", "relu", "query", "key-value", "normed", "stream", "output"]
)
def test_statistics_of_a_norm_receive_the_gradient_along_its_output(place):
    def run(m, x):
        y = root_mean_square_norm(m.a(x))
        if place == "gated":
            return m.d(F.silu(m.b(y)) * m.c(y))
        if place == "relu":
            return m.d(F.relu(m.b(y)))
        if place == "query":
            scores = y @ m.b(x).transpose(1, 2) / N**0.5
            return m.d(scores.softmax(-1) @ m.c(x))
        if place == "key-value":
            # Large logits have large shares: what a key receives goes with what its value does.
            q, k, v = (h[:, None] for h in (m.b(x), m.c(y), m.d(y)))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0]
        if place == "stream":
            # The next norm takes off what lies along x + b, of which b is four fifths.
            h = m.a(x) + 2 * m.c(F.silu(m.b(y)))
            return m.d(root_mean_square_norm(h))
        # A norm of W y does not notice how long y is, but for its eps.
        return m.d(F.layer_norm(m.b(y), (N,)) + m.c(y)) if place == "normed" else y

    rows = rows_of(
        lambda: Module(run, a=dense(), b=dense(), c=dense(), d=dense()), batch(4, 24, N), "rsqrt"
    )
    gradient, truth = rows[0]
    assert gradient == pytest.approx(truth, rel=0.1)


def test_shares_and_logits_are_no_strangers():
    torch.manual_seed(0)
    scores = torch.randn(1 << 14, 8).double().requires_grad_()
    weights = torch.randn(1 << 14, 8).double()
    (gradient,) = torch.autograd.grad((scores.softmax(-1) * weights).sum(), scores)
    strangers = float(gradient.square().mean() * scores.square().mean())
    row = float((gradient * scores).sum(-1).square().mean()) / 8 / strangers
    column = float((gradient * scores).square().mean()) / strangers
    # 2¹⁴ rows: the means of fourth powers are known to about 2 %.
    found = along_logits(8, 1.0)
    assert (found[0] / found[2], found[1] / found[2]) == pytest.approx((row, column), rel=0.08)


def test_queries_that_see_one_key_have_no_gradient():
    def run(m, x):
        y = F.scaled_dot_product_attention(m.q(x)[:, None], m.k(x)[:, None], m.v(x)[:, None],
                                           is_causal=True)  # fmt: skip
        return y[:, 0, :2]

    rows = rows_of(
        lambda: Module(run, q=dense(), k=dense(), v=dense()), batch(32, 6, N), "unsqueeze"
    )
    for gradient, truth in rows:
        assert gradient == pytest.approx(truth, rel=0.15)


def test_places_inside_a_padded_border_receive_from_more_taps():
    # Zeros around 2 × 2 positions: all four windows read each of them, the border one to two.
    assert_predicted(
        lambda: nn.Sequential(
            nn.Conv2d(16, 64, 1, bias=False), nn.ZeroPad2d(1), nn.Conv2d(64, 32, 3, bias=False)
        ),
        batch(32, 16, 2, 2), forward=0.06,
    )  # fmt: skip


def test_a_batch_norm_behind_few_weights_and_its_convolution_before():
    # Nine weights a channel: E[1/s²] = 9/7 behind the depthwise convolution, 1 before it.
    def build():
        model = nn.Sequential(
            nn.Conv2d(16, 256, 1, bias=False), nn.Conv2d(256, 256, 3, groups=256, bias=False),
            nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 32, 1, bias=False),
        )  # fmt: skip
        nn.init.normal_(model[1].weight, std=1 / 3)
        return model

    assert_predicted(build, batch(16, 16, 8, 8), forward=0.06, backward=0.06)


def test_a_norm_of_a_norm_divides_by_no_chance():
    # s² of 8 numbers would be χ² with 7 degrees: 18 % in the RMS; behind a norm it is no chance.
    rows = rows_of(
        lambda: nn.Sequential(dense(64, 8), nn.LayerNorm(8), nn.LayerNorm(8), dense(8, 64)),
        batch(512, 64), "native_layer_norm", draws=24,
    )  # fmt: skip
    for gradient, truth in rows[:1]:
        assert gradient == pytest.approx(truth, rel=0.06)


def test_windows_larger_than_the_image_average_what_there_is():
    assert_predicted(
        lambda: nn.Sequential(
            nn.Conv2d(16, 128, 1, bias=False), nn.AvgPool2d(64, ceil_mode=True)
        ),
        batch(16, 16, 4, 4), forward=0.06,
    )  # fmt: skip


def test_profiles_move_like_gradients():
    """Each way against automatic differentiation of the same operation on powers."""
    made = np.random.default_rng(0).random((3, 4, 5))
    made /= made.mean()
    whole, factor = carrying.placed((3, 4, 5), (3, 9, 5), 1, slice(2, 6))(made)
    assert factor == 1.0
    assert whole.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(whole[:, 2:6] / whole[:, 2:6].mean(), made)
    assert not whole[:, :2].any()
    assert not whole[:, 6:].any()
    part, factor = carrying.picked(1, 1, 2)(made)
    np.testing.assert_allclose(part * factor, made[:, 1:3])
    summed, _ = carrying.alike(made, (3, 4, 5), (4, 1))
    np.testing.assert_allclose(summed, made.mean((0, 2))[:, None])
    other = np.random.default_rng(1).random((3, 5, 6))
    found, factor = carrying.contracted(other / other.mean(), "bik", "bkj", "bij")(made)
    truth = np.einsum("bik,bkj->bij", made, other / other.mean()) / 5
    np.testing.assert_allclose(found * factor, truth)
