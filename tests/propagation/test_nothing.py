"""Batches of no samples, experts without tokens, NaN: a prediction, and what it says of them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body, self.head = kind(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x)[0][:, -1])


class Function(nn.Module):
    """A function of a linear layer's output, between two such layers."""

    def __init__(self, function, width=8):
        super().__init__()
        self.before, self.after = nn.Linear(8, 8), nn.Linear(width, 3)
        self.function = function

    def forward(self, x):
        return self.after(self.function(self.before(x)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x)[0].mean(1))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(2, 8, 4) / 8**0.5), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.einsum("btd,hde->bhte", x, self.weight).sum(1))


class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return F.cross_entropy(self.head(x), torch.zeros(len(x), dtype=torch.long))


def hand_norm(y):
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
    return (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)


def causal(y):
    q = y.view(*y.shape[:2], 2, 4).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q, q, is_causal=True).transpose(1, 2).flatten(2)


SEQUENCE, VECTOR, IMAGE = (5, 8), (8,), (3, 8, 8)
S = nn.Sequential
CASES = {
    "linear": (VECTOR, lambda: S(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))),
    "sequence": (SEQUENCE, lambda: S(nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 3))),
    "gru": (SEQUENCE, lambda: Recurrent(nn.GRU)),
    "lstm": (SEQUENCE, lambda: Recurrent(nn.LSTM)),
    "rnn": (SEQUENCE, lambda: Recurrent(nn.RNN)),
    "max_pooling": (IMAGE, lambda: S(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                                     nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    "batch_norm": (IMAGE, lambda: S(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU6(),
                                    nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 3))),
    "group_norm": (IMAGE, lambda: S(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(),
                                    nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 1))),
    "upsampling": (IMAGE, lambda: S(nn.ConvTranspose2d(3, 4, 2, 2), nn.InstanceNorm2d(4),
                                    nn.Upsample(scale_factor=2, mode="bilinear"))),
    "gated_convolution": (SEQUENCE, lambda: S(nn.Conv1d(5, 8, 3, padding=1), nn.BatchNorm1d(8),
                                              nn.GLU(1), nn.MaxPool1d(2), nn.Flatten())),
    "layer_norm": (SEQUENCE, lambda: S(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3))),
    "rms_norm": (SEQUENCE, lambda: S(nn.Linear(8, 8), nn.RMSNorm(8), nn.Linear(8, 3))),
    "norms_by_hand": (SEQUENCE, lambda: Function(hand_norm)),
    "attention": (SEQUENCE, Attention),
    "causal_attention": (SEQUENCE, lambda: Function(causal)),
    "encoder": (SEQUENCE, lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "concatenation": (VECTOR, lambda: Function(lambda y: torch.cat([y.relu(), y.tanh()], -1), 16)),
    "einsum": (SEQUENCE, Heads),
    "over_samples": (VECTOR, lambda: Function(lambda y: (y - y.mean(0)).softmax(0).cumsum(0))),
    "log_softmax": (VECTOR, lambda: Function(lambda y: y.softmax(-1) * y.log_softmax(-1))),
    "maxima": (VECTOR, lambda: Function(lambda y: y.topk(4, -1)[0] + y.sort(-1)[0][..., :4], 4)),
    "scatter": (VECTOR, lambda: Function(
        lambda y: y + torch.zeros(2, 8).index_add(0, torch.arange(len(y)) % 2, y)[:1])),
    "loss": (VECTOR, Loss),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_no_samples_have_no_moments(name):
    shape, build = CASES[name]
    torch.manual_seed(0)
    model = build()
    signals = fanin.predict(model, torch.zeros(0, *shape))
    empty = [s for s in signals.tensors.values() if 0 in s.shape]
    assert empty
    assert all(s.rms is None and s.gradient_rms is None for s in empty)
    for signal in signals.tensors.values():
        assert signal.rms is None or signal.rms >= 0  # no NaN
    # What is planned on four samples is planned on none.
    few, none = (fanin.plan(model, torch.zeros(n, *shape)) for n in (4, 0))
    assert none.keys() == few.keys()
    assert fanin.predict(model, torch.zeros(0, *shape), few).notes


@pytest.mark.parametrize("name", CASES)
def test_one_sample_and_nan(name):
    shape, build = CASES[name]
    torch.manual_seed(0)
    model = build()
    data = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    for x in (data, torch.full((2, *shape), float("nan"))):
        signals = fanin.predict(model, x)
        found = [s.gradient_rms for s in signals.tensors.values()] + [
            s.rms for s in signals.tensors.values()]  # fmt: skip
        assert all(value is None or value >= 0 for value in found)
    assert any("are NaN: taken as 0" in note for note in signals.notes)


def test_tokens_without_a_batch():
    model = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11))
    assert fanin.predict(model, torch.zeros(0, 5, dtype=torch.long)).tensors
    assert fanin.predict(nn.EmbeddingBag(11, 8), torch.zeros(0, 5, dtype=torch.long)).tensors


@pytest.mark.parametrize("write", ["index_add", "index_put", "cat"])
def test_an_expert_without_tokens_leaves_the_others_as_they_are(write):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.stream, self.one, self.two = (nn.Linear(64, 64) for _ in range(3))

        def forward(self, x):
            h = self.stream(x)
            all_of_them, nobody = torch.arange(len(x)), torch.arange(0)
            one, two = self.one(h[all_of_them]), self.two(h[nobody])
            if write == "cat":
                return torch.cat([two, one])
            made = torch.zeros_like(h)
            if write == "index_put":
                made[all_of_them] = one
                made[nobody] = two
                return made
            return made.index_add(0, all_of_them, one).index_add(0, nobody, two)

    torch.manual_seed(0)
    model, x = Experts(), torch.randn(256, 64, generator=torch.Generator().manual_seed(1))
    predicted, measured = fanin.predict(model, x), fanin.measure(model, x)
    told = {row.weight: row for row in predicted.layers}
    for row in measured.layers:
        guess = told[row.weight]
        for value, truth in ((guess.output_rms, row.output_rms),
                             (guess.gradient_rms, row.gradient_rms)):  # fmt: skip
            # The expert without tokens has neither.
            assert value == (truth and pytest.approx(truth, rel=0.1))
    if write != "index_put":  # which has no rule of its own
        assert not any(s.sampled for s in predicted.tensors.values())


def test_a_matrix_without_inputs_gives_its_bias():
    model = nn.Linear(0, 400)
    signals = fanin.predict(model, torch.zeros(16, 0))
    assert signals.tensors[max(signals.tensors)].rms == pytest.approx(
        model.bias.detach().square().mean().item() ** 0.5
    )


def test_integer_parameters():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.times = nn.Linear(64, 64), nn.Parameter(torch.tensor(3), False)

        def forward(self, x):
            return self.body(x) * self.times

    torch.manual_seed(0)
    x = torch.randn(128, 64, generator=torch.Generator().manual_seed(1))
    signals = fanin.predict(Scaled(), x)
    out, inner = (max(s.tensor for s in signals.tensors.values() if s.operation == name)
                  for name in ("mul", "addmm"))  # fmt: skip
    assert signals.tensors[out].rms == pytest.approx(3 * signals.tensors[inner].rms)
