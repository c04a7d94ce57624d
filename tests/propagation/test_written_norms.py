"""Norms written out by hand pass gradients on as whole norms do, whatever the way they are written.

The truth is sampling: the root mean square over draws of the weights.
"""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import assert_predicted, predicted_and_measured
from torch.nn import functional as F  # noqa: N812

HEADS, FEW = 16, 10


def rms_few(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def unit(x):
    return F.normalize(x, dim=-1)


def layer_by_hand(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-7)


def by_deviation(x):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, unbiased=False) + 1e-6)


@pytest.mark.parametrize("norm", [rms_few, unit, layer_by_hand], ids=lambda n: n.__name__)
def test_norms_over_few_numbers(norm):
    # E[1/a] of 10 numbers is 1.25 times 1/E[a]; what the statistic sends back takes off 1 of 10.
    def run(m, x):
        h = m.a(x).view(len(x), HEADS, FEW)
        return m.b(norm(h).flatten(1))

    def build():
        return Module(run, a=dense(N, HEADS * FEW), b=dense(HEADS * FEW, N))

    assert_predicted(build, batch(64, N), forward=0.05, backward=0.1, draws=12)


@pytest.mark.parametrize("norm", [layer_by_hand, by_deviation], ids=lambda n: n.__name__)
def test_a_mean_taken_off_comes_off_the_gradient_too(norm):
    # The second norm's gradient sums to 0 over features, so that the first one's mean receives
    # only what comes through the matrix beside the stream.
    def run(m, x):
        h = norm(m.a(x))
        return m.c(norm(h + m.b(F.gelu(h))))

    def build():
        return Module(run, a=dense(), b=dense(), c=dense())

    rows = predicted_and_measured(build, batch(32, N), 12)
    found = [(row[0].operation, row[3], row[4]) for row in rows if row[0].operation == "mean"]
    assert found
    for name, gradient, truth in found:
        assert gradient == pytest.approx(truth, rel=0.25), name


def test_queries_and_keys_normalised_by_hand():
    def run(m, x):
        q, k, v = (layer(x).view(8, 12, 4, 12).transpose(1, 2) for layer in (m.q, m.k, m.v))
        y = F.scaled_dot_product_attention(rms_few(q), rms_few(k), v, is_causal=True)
        return m.o(y.transpose(1, 2).flatten(2))

    def build():
        return Module(run, **{name: dense(48, 48) for name in "qkvo"})

    rows = predicted_and_measured(build, batch(8, 12, 48), 24)
    inside = [row for row in rows if row[0].operation in ("pow", "mean", "rsqrt", "mm")]
    assert len(inside) == 10
    for signal, _, _, gradient, truth in inside:
        assert gradient == pytest.approx(truth, rel=0.2), signal.operation


def test_a_statistic_that_is_read_elsewhere_is_no_norm():
    def run(m, x):
        h = m.a(x)
        r = torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return m.b(h * r), r

    assert_predicted(
        lambda: Module(run, a=dense(), b=dense()), batch(64, N), backward=0.2, draws=12
    )


def test_outputs_of_one_shape_are_differentiated_along_one_direction():
    # Hidden states that a model returns beside its output: on the stream both add up.
    def run(m, x):
        h = m.a(x)
        return h, h + m.b(h)

    rows = predicted_and_measured(lambda: Module(run, a=dense(), b=dense()), batch(64, N), 8)
    first = next(row for row in rows if row[0].operation in ("addmm", "mm"))
    assert first[3] == pytest.approx(first[4], rel=0.05)
    assert first[3] > 2.2


def test_rows_of_one_power_stay_so_beside_a_small_branch():
    # |x + b|² of rows with |x|² = n varies by 4 E[b²]/n, not by 2/n: E[1/s²] is 1/E[s²].
    def run(m, x):
        h = rms_few(m.a(x))
        return m.c(rms_few(h + 0.2 * m.b(h)))

    def build():
        return Module(run, a=dense(N, FEW), b=dense(FEW, FEW), c=dense(FEW, N))

    rows = predicted_and_measured(build, batch(256, N), 24)
    branch = next(row for row in rows if row[0].module == "b" and row[0].operation == "mm")
    assert branch[3] == pytest.approx(branch[4], rel=0.04)


def test_what_experts_make_of_one_token_stretches_with_it():
    # Two experts' outputs of degree 2 join a stream: stretching it changes both alike.
    def run(m, x):
        h = rms_few(m.a(x))
        experts = (m.b(h).view(64, 2, 64) * m.c(h).view(64, 2, 64)).sum(1)
        return m.d(rms_few(h + 0.3 * experts))

    def build():
        return Module(run, a=dense(64, 64), b=dense(64, 128), c=dense(64, 128), d=dense(64, 64))

    rows = predicted_and_measured(build, batch(64, 64), 24)
    first = next(row for row in rows if row[0].operation == "rsqrt")
    assert first[3] == pytest.approx(first[4], rel=0.15)
