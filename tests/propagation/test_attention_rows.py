"""Tokens that are weaker than others: they ask for nothing, and are asked for by chance."""

import numpy as np
import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import predicted_and_measured
from torch.nn import functional as F  # noqa: N812

from fanin.propagation.alignment import query_alignment


def rows_of(run, x, names="qkvo", draws=24):
    def build():
        return Module(run, **{name: dense() for name in names})

    return predicted_and_measured(build, x, draws)


def attended(m, x):
    return F.scaled_dot_product_attention(m.q(x)[:, None], m.k(x)[:, None], m.v(x)[:, None])[:, 0]


def test_a_class_token_of_zeros_averages_evenly():
    # Rows of unit logits have Σ a² near e/T; the row of zeros 1/T.
    def run(m, x):
        tokens = torch.cat([torch.zeros(len(x), 1, N), x], dim=1)
        return m.o(attended(m, tokens)[:, 0])

    rows = rows_of(run, batch(8, 24, N))
    found = [r for r in rows if r[0].operation == "select"][-1]
    assert found[1] == pytest.approx(found[2], rel=0.06)
    others = next(r for r in rows if r[0].operation.startswith("_scaled_dot"))
    assert others[2] > 1.3 * found[2]


@pytest.mark.parametrize("padded", [4, 12, 20])
def test_strong_keys_take_what_weak_ones_leave(padded):
    # Tokens of zeros, as a window is padded: strong rows of strong keys hold most of the gradient.
    def run(m, x):
        tokens = F.pad(x, (0, 0, 0, padded))
        q, k, v = m.q(tokens), m.k(tokens), m.v(tokens)
        shares = (q @ k.transpose(1, 2) / N**0.5).softmax(-1)
        return m.o((shares @ v)[:, : x.shape[1]])

    rows = rows_of(run, batch(4, 24 - padded, N))
    shares = next(r for r in rows if r[0].operation == "_softmax")
    logits = next(r for r in rows if r[0].operation == "div")
    average = [r for r in rows if r[0].operation == "bmm"][-1]
    assert shares[1] == pytest.approx(shares[2], rel=0.04)
    assert average[1] == pytest.approx(average[2], rel=0.06)
    assert logits[3] == pytest.approx(logits[4], rel=0.12)


@pytest.mark.parametrize("written", [False, True], ids=["fused", "written out"])
def test_queries_receive_more_where_keys_and_values_read_one_tensor(written):
    # 96 tokens in 32 directions: Σ (g·v) k over strangers has a quarter of the power.
    width = 32

    def run(m, x):
        q, k, v = m.q(x), m.k(x), m.v(x)
        if written:
            return m.o(((q @ k.transpose(1, 2)) / width**0.5).softmax(-1) @ v)
        return m.o(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])

    def build():
        return Module(run, **{name: dense(width, width) for name in "qkvo"})

    rows = predicted_and_measured(build, batch(8, 96, width), 24)
    queries = next(r for r in rows if r[0].operation == "mm")
    assert queries[3] == pytest.approx(queries[4], rel=0.12)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_where_logits_are_huge_one_key_takes_all():
    # Zeros among the keys, so that the spread of logits differs from key to key.
    def run(m, x):
        tokens = F.pad(x, (0, 0, 0, 4))
        shares = (40 * m.q(tokens) @ m.k(tokens).transpose(1, 2) / N**0.5).softmax(-1)
        return m.o((shares @ m.v(tokens))[:, : x.shape[1]])

    rows = rows_of(run, batch(4, 20, N))
    average = [r for r in rows if r[0].operation == "bmm"][-1]
    assert average[1] == pytest.approx(average[2], rel=0.25)


@pytest.mark.parametrize("held", [(12, 12), (12, 4), (9, 1)])
def test_queries_of_windows_with_few_tokens_hear_few_keys(held):
    # Even shares of 12 keys, of which a window holds so many; keys and values of 10 directions.
    rng, n, keys = np.random.default_rng(0), 10, 12
    here = np.arange(keys) < np.array(held)[:, None]
    powers = np.zeros(2)
    for _ in range(2000):
        x, other, g = (rng.standard_normal((2, keys, n)) * here[..., None] for _ in range(3))
        for kind, k in enumerate((x, other)):
            powers[kind] += (np.einsum("wqn,wkn,wkm->wqm", g, x, k) ** 2).sum()
    profile = here[..., None] / here.mean()
    # Of n Gaussian numbers a token's own square is 2/n more than of many.
    assert query_alignment(1 / n, 1 / keys, profile) == pytest.approx(
        powers[0] / powers[1], rel=0.15
    )
