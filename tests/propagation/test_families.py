"""Each operation family against running it: wide layers, several draws of the weights.

Tolerances: a layer of width n averaged over d draws has an RMS with a relative standard error of
about 1/√(2nd), below 1 % here; the limits of large width are themselves off by O(1/n). 5 % forward
and 10 % backward are four standard errors and more for every row.
"""

import pytest
import torch
from building_blocks import Module, N, batch, dense
from checks import assert_predicted
from torch import library, nn
from torch.nn import functional as F  # noqa: N812

import fanin


def test_linear_with_bias_and_correlated_samples():
    shared = batch(1, N) + 0.5 * batch(32, N, seed=2)
    assert_predicted(lambda: nn.Sequential(nn.Linear(N, N), nn.ReLU(), nn.Linear(N, N)), shared)


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Softplus(), nn.Hardswish(), nn.Mish(),
     nn.LeakyReLU(0.2), nn.ELU(), nn.SELU(), nn.Hardtanh(), nn.Softsign(), nn.LogSigmoid(),
     nn.PReLU()],
    ids=lambda a: type(a).__name__,
)  # fmt: skip
def test_activations(activation):
    assert_predicted(lambda: nn.Sequential(dense(), activation, dense()), batch(64, N), draws=4)


def test_an_activation_never_seen_before_is_called_on_the_nodes():
    def bump(m, x):
        h = m.a(x)
        return m.b(torch.erf(h) * torch.exp(-h.square() / 3))

    assert_predicted(lambda: Module(bump, a=dense(), b=dense()), batch(64, N), draws=4)


def test_a_layer_called_twice_on_one_tensor_gives_the_same_numbers():
    model = Module(lambda m, x: m.a(x) * m.a(x), a=dense())
    signals = fanin.predict(model, batch(64, N))
    # E[z⁴] = 3, not the 1 of two independent factors.
    assert signals.tensors[max(signals.tensors)].rms == pytest.approx(3**0.5, rel=0.02)


def test_a_custom_operation_is_tried_and_found_elementwise():
    @library.custom_op("fanin_tests::bent", mutates_args=())
    def bent(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, 0.3 * x.sin())

    @bent.register_fake
    def _(x):
        return torch.empty_like(x)

    bent.register_autograd(
        lambda ctx, g: (
            g * torch.where(ctx.saved_tensors[0] > 0, 1.0, 0.3 * ctx.saved_tensors[0].cos())
        ),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    assert_predicted(
        lambda: Module(lambda m, x: m.b(torch.ops.fanin_tests.bent(m.a(x))), a=dense(), b=dense()),
        batch(64, N), draws=4,
    )  # fmt: skip


def test_functions_written_out_by_hand_share_one_ancestor():
    def gelu(m, x):
        h = m.a(x)
        return m.b(0.5 * h * (1 + torch.tanh(0.79788456 * (h + 0.044715 * h**3))))

    assert_predicted(lambda: Module(gelu, a=dense(), b=dense()), batch(64, N), draws=4)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (5, 1, 0, 1, 2), (3, 1, 2, 2, 1), (3, 1, 1, 1, 64),
     (4, 2, 1, 1, 4)],
)  # fmt: skip
def test_convolution(kernel, stride, padding, dilation, groups):
    def build():
        first = nn.Conv2d(16, 64, 1, bias=False)
        second = nn.Conv2d(64, 64, kernel, stride, padding, dilation, groups, bias=False)
        return nn.Sequential(first, nn.ReLU(), second)

    assert_predicted(build, batch(8, 16, 8, 8), forward=0.06)


@pytest.mark.parametrize(("height", "factor"), [(8, 0.84), (4, 0.69), (1, 0.111)])
def test_zero_padding_takes_its_share(height, factor):
    layer = nn.Conv2d(256, 256, 3, padding=1, bias=False)
    nn.init.normal_(layer.weight, std=(256 * 9) ** -0.5)
    signals = fanin.predict(layer, batch(16, 256, height, height))
    (row,) = signals.layers
    assert row.output_rms**2 == pytest.approx(factor, abs=0.02)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (3, 1, 1), (2, 2, 0)])
def test_transposed_convolution(kernel, stride, padding):
    assert_predicted(
        lambda: nn.Sequential(
            nn.Conv2d(8, 64, 1), nn.ReLU(), nn.ConvTranspose2d(64, 32, kernel, stride, padding)
        ),
        batch(8, 8, 6, 6), forward=0.06,
    )  # fmt: skip


@pytest.mark.parametrize(
    "pool",
    [nn.AvgPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1),
     nn.Upsample(scale_factor=2)],
    ids=lambda p: type(p).__name__,
)  # fmt: skip
def test_pooling(pool):
    assert_predicted(
        lambda: nn.Sequential(nn.Conv2d(64, 128, 1, bias=False), pool), batch(8, 64, 8, 8),
        forward=0.05, backward=0.12,
    )  # fmt: skip


@pytest.mark.parametrize(
    "norm",
    [lambda: nn.LayerNorm(N), lambda: nn.RMSNorm(N), lambda: nn.BatchNorm1d(N)],
    ids=["layer", "rms", "batch"],
)
def test_norms(norm):
    assert_predicted(
        lambda: nn.Sequential(nn.Linear(N, N), nn.ReLU(), norm(), nn.Linear(N, N)), batch(64, N),
        # Gradients inside of a hand-written RMS norm sum g·x, which are not independent.
        skip=("pow", "mean", "add_", "rsqrt"),
    )  # fmt: skip


def test_group_norm_and_batch_norm_over_space():
    assert_predicted(
        lambda: nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
                              nn.Conv2d(64, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.SiLU(),
                              nn.Conv2d(64, 32, 1)),
        batch(8, 16, 8, 8), forward=0.06, backward=0.12,
    )  # fmt: skip


def test_plain_batch_norm_relu_stacks_grow_gradients():
    # π/(π − 1) = 1.467 per layer in the second moment (Yang et al. 2019).
    layers = [part for _ in range(10) for part in (dense(), nn.BatchNorm1d(N), nn.ReLU())]
    signals = fanin.predict(nn.Sequential(*layers), batch(512, N))
    rows = signals.layers
    growth = (rows[2].gradient_rms / rows[8].gradient_rms) ** (2 / 6)
    assert growth == pytest.approx(1.467, rel=0.03)


def test_residual_add_has_no_covariance_behind_a_fresh_matrix():
    assert_predicted(
        lambda: Module(lambda m, x: x + m.b(F.relu(m.a(x))), a=dense(), b=dense()), batch(64, N)
    )


def test_x_plus_a_function_of_x_is_not_independent():
    assert_predicted(
        lambda: Module(lambda m, x: m.b(m.a(x) + F.relu(m.a(x))) * 1.0, a=dense(), b=dense()),
        batch(64, N), draws=4,
    )  # fmt: skip


def test_one_matrix_used_twice_adds_coherently():
    def run(m, x):
        h = m.a(x)
        return m.b(x) + m.b(h + x)

    assert_predicted(lambda: Module(run, a=dense(), b=dense()), batch(64, N))


def test_gates():
    def swiglu(m, x):
        return m.down(F.silu(m.gate(x)) * m.up(x))

    assert_predicted(lambda: Module(swiglu, gate=dense(), up=dense(), down=dense()), batch(64, N))
    assert_predicted(lambda: nn.Sequential(dense(N, 2 * N), nn.GLU(), dense()), batch(64, N))


def test_concatenation_split_and_padding():
    def run(m, x):
        a, b = m.a(x).chunk(2, dim=1)
        return m.b(torch.cat([F.relu(a), F.pad(b, (0, N // 2))], dim=1))

    assert_predicted(lambda: Module(run, a=dense(), b=dense(N + N // 2, N)), batch(64, N))


def test_embedding_counts_repeated_tokens():
    ids = torch.arange(64).reshape(4, 16) % 7
    assert_predicted(
        lambda: Module(lambda m, i: m.head(m.table(i).mean(1)), table=nn.Embedding(50, N),
                       head=dense()),
        ids, forward=0.08, backward=0.12,
    )  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    def run(m, x):
        q, k, v = (layer(x).unflatten(-1, (4, -1)).transpose(1, 2) for layer in (m.q, m.k, m.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return m.o(y.transpose(1, 2).flatten(2))

    assert_predicted(
        lambda: Module(run, q=dense(), k=dense(), v=dense(), o=dense()), batch(4, 24, N),
        forward=0.06, backward=0.12,
        skip=("_scaled_dot_product_flash_attention_for_cpu",) if causal else (),
    )  # fmt: skip


def test_attention_written_out():
    def run(m, x):
        scores = m.q(x) @ m.k(x).transpose(1, 2) / N**0.5
        return m.o(scores.softmax(-1) @ m.v(x))

    assert_predicted(
        lambda: Module(run, q=dense(), k=dense(), v=dense(), o=dense()), batch(4, 24, N),
        forward=0.06, backward=0.15,
    )  # fmt: skip


def test_dropout_and_reductions():
    assert_predicted(
        lambda: Module(lambda m, x: m.b(m.drop(m.a(x))).mean(1), a=dense(), b=dense(),
                       drop=nn.Dropout(0.3)),
        batch(8, 16, N), skip=("bernoulli_", "div_"),
    )  # fmt: skip


def test_recurrence_through_time():
    # tanh cells, unrolled: one matrix at every step.
    assert_predicted(
        lambda: nn.RNN(64, N, batch_first=True), batch(16, 6, 64), forward=0.1, backward=0.15,
        draws=4, sampled=True,
    )  # fmt: skip


def test_graph_aggregation_follows_the_degree():
    edges = torch.randint(0, 30, (2, 200), generator=torch.Generator().manual_seed(0))

    def run(m, x, edges):
        out = torch.zeros(30, N)
        return m.b(out.index_add(0, edges[1], m.a(x)[edges[0]]))

    assert_predicted(lambda: Module(run, a=dense(), b=dense()), (batch(30, N), edges))


def test_what_has_no_rule_is_sampled_and_says_so():
    model = Module(lambda m, x: m.b(torch.sort(m.a(x), dim=1).values), a=dense(), b=dense())
    signals = fanin.predict(model, batch(16, N))
    by_name = {s.operation: s for s in signals.tensors.values()}
    assert by_name["sort"].sampled
    assert not by_name["t"].sampled
    assert any("sort: sampled" in note for note in signals.notes)
    assert signals.tensors[max(signals.tensors)].sampled  # and what follows from it


def test_a_batch_norm_over_few_samples_has_larger_gradients():
    # s² of 8 samples is χ² with 7 degrees: E[1/s²] = 7/5 of 1/E[s²], 18 % in the RMS.
    assert_predicted(
        lambda: nn.Sequential(dense(64, N), nn.BatchNorm1d(N), dense(N, 64)), batch(8, 64)
    )


def test_the_largest_of_a_window_is_rarely_below_zero():
    assert_predicted(
        lambda: nn.Sequential(nn.Conv2d(64, 128, 1, bias=False), nn.ReLU(), nn.MaxPool2d(2)),
        batch(8, 64, 8, 8),
    )


def test_a_transform_of_what_a_norm_has_centred():
    # Its first bin is empty, and no less than that.
    def run(m, x):
        y = F.layer_norm(m.a(x), (N,))
        return m.a(y + torch.fft.fftn(y, dim=(1, 2)).real)

    torch.manual_seed(0)
    tensors = fanin.predict(Module(run, a=dense()), batch(4, 7, N)).tensors.values()
    (total,) = [signal for signal in tensors if signal.operation == "add"]
    assert total.rms == pytest.approx((7 * N / 2 + 1) ** 0.5, rel=0.05)
