"""Tensors that share something: parts of one tensor, steps of a sequence, tied heads, keys."""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import forward_only
from torch import nn
from torch.nn import functional as F  # noqa: N812


def test_a_sequence_less_itself_shifted_by_one():
    shared = batch(8, 1, N) + 0.5 * batch(8, 12, N, seed=2)

    def run(m, x):
        h = m.a(x)
        return h[:, 1:] - h[:, :-1]

    forward_only(lambda: Module(run, a=dense()), shared)


def test_two_layers_of_an_unrolled_gru():
    # The second layer reads hidden states that change slowly: h − n there is far below √(h² + n²).
    forward_only(
        lambda: nn.GRU(64, 64, num_layers=2, batch_first=True, bias=False), batch(32, 8, 64),
        forward=0.1, skip=("slice", "zeros", "select"), sampled=True,
    )  # fmt: skip


def test_a_tied_head_meets_its_own_embedding():
    def run(m, ids):
        h = m.table(ids)
        h = h + m.b(F.gelu(m.a(h)))
        return F.linear(F.layer_norm(h, (N,)), m.table.weight)

    def build():
        table = nn.Embedding(100, N)
        nn.init.normal_(table.weight, std=N**-0.5)
        return Module(run, table=table, a=dense(), b=dense())

    forward_only(build, torch.arange(60).reshape(4, 15))


@pytest.mark.parametrize("rank", [8, N])
def test_attention_over_many_keys_leans_along_its_query(rank):
    # 256 keys that lie in 8 directions: averages of values are mostly what leans.
    def run(m, x):
        h = m.embed(x)
        q, k, v = (layer(h)[:, None] for layer in (m.q, m.k, m.v))
        return F.scaled_dot_product_attention(q, k, v)[:, 0]

    forward_only(
        lambda: Module(run, embed=dense(rank), q=dense(), k=dense(), v=dense()),
        batch(4, 256, rank), draws=16, forward=0.08,
    )  # fmt: skip


def test_fourier_transforms_keep_their_power():
    def run(m, x):
        return torch.view_as_real(torch.fft.fft(F.relu(m.a(x)), dim=-1)), torch.fft.fft(
            torch.fft.fft(m.a(x), dim=-1), dim=-2
        ).real

    forward_only(lambda: Module(run, a=dense()), batch(8, 16, N), skip=("_fft_c2c", "_to_copy"))
