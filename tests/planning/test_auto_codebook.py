"""auto and codebooks: their values stay, and a tied embedding is none."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.schemes import Normal


class Quantised(nn.Module):
    """Encoder, nearest code, decoder; the straight-through estimator between them."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.encoder, self.decoder = nn.Linear(10, 4), nn.Linear(4, 10)
        self.book = nn.Embedding(16, 4)
        nn.init.uniform_(self.book.weight, -1 / 16, 1 / 16)

    def nearest(self, z, codes):
        if self.form == "distance":
            return torch.cdist(z, codes).argmin(1)
        if self.form == "minimum":
            return torch.cdist(z, codes).min(1)[1]
        if self.form == "cosine":
            return (F.normalize(z, dim=1) @ F.normalize(codes, dim=1).T).argmax(1)
        return (z.pow(2).sum(1, keepdim=True) + codes.pow(2).sum(1) - 2 * z @ codes.T).argmin(1)

    def forward(self, x):
        z, codes = self.encoder(x), self.book.weight
        chosen = self.nearest(z, codes)
        q = codes[chosen] if self.form == "indexed" else self.book(chosen)
        return self.decoder(z + (q - z).detach())


@pytest.mark.parametrize("form", ["distance", "minimum", "cosine", "expanded", "indexed"])
def test_a_codebook_keeps_its_constructors_values(form):
    model = Quantised(form)
    before = model.book.weight.detach().clone()
    ledger = fanin.initialize(model, torch.randn(32, 10))
    assert torch.equal(model.book.weight, before)
    assert "codebook" in ledger["book.weight"].reason


def test_a_tied_embedding_whose_best_token_is_read_again_is_none():
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.layer = nn.Embedding(50, 8), nn.Linear(8, 8)

        def forward(self, tokens):
            for _ in range(2):
                logits = self.layer(self.table(tokens)) @ self.table.weight.T
                tokens = logits.argmax(-1)
            return logits

    plan = fanin.plan(Greedy(), torch.randint(0, 50, (4, 3)))
    assert isinstance(plan["table.weight"].scheme, Normal)


def test_a_table_looked_up_by_what_a_layer_chose_is_none():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.router, self.table = nn.Linear(8, 16), nn.Embedding(16, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.table(self.router(x).argmax(-1)))

    plan = fanin.plan(Routed(), torch.randn(4, 8))
    assert isinstance(plan["table.weight"].scheme, Normal)
