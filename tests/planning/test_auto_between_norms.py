"""A weight alone between two norms of a residual network starts small, and no other does."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

WIDTH = 16
X = torch.randn(4, 6, WIDTH, generator=torch.Generator().manual_seed(0))
SMALL = math.sqrt(2 / (5 * WIDTH))


class ByHand(nn.Module):
    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc1, self.fc2 = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 40),
            nn.Linear(40, WIDTH),
        )

    def forward(self, x):
        return x + self.fc2(F.gelu(self.fc1(self.norm(x))))


class Transformed(nn.Module):
    """Blocks, a norm, a transform, what follows it, a head."""

    def __init__(self, form, blocks=2):
        super().__init__()
        self.form = form
        self.blocks = nn.Sequential(*[Block() for _ in range(blocks)])
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        if form == "rms":
            self.second = ByHand()
        if form == "batch":
            self.second = nn.BatchNorm1d(6)
        self.transform, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 50)
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        x = self.blocks(x)
        x = x if self.form == "reads the stream" else self.first(x)
        h = self.transform(x)
        if self.form == "returned":
            return self.head(self.second(h)), h
        if self.form == "joined":
            return self.head(self.second(h + x))
        if self.form == "no norm":
            return self.head(F.gelu(h))
        if self.form == "scaled by data":
            return self.head(self.second(h * x))
        h = h + self.bias if self.form == "bias apart" else h
        return self.head(self.second(h if self.form == "straight" else F.gelu(h)))


@pytest.mark.parametrize("form", ["bent", "straight", "rms", "bias apart"])
def test_between_norms_it_is_small(form):
    plan = fanin.plan(Transformed(form), X)
    assert plan["transform.weight"].std == pytest.approx(SMALL)
    assert plan["transform.weight"].reason.startswith("between norms")
    assert plan["head.weight"].reason.startswith("head")


@pytest.mark.parametrize(
    "form",
    ["reads the stream", "returned", "joined", "no norm", "scaled by data", "batch"],
)
def test_where_its_scale_shows_it_is_not(form):
    assert "between norms" not in fanin.plan(Transformed(form), X)["transform.weight"].reason


def test_nor_in_a_net_without_branches():
    plan = fanin.plan(Transformed("bent", blocks=0), X)
    assert "between norms" not in plan["transform.weight"].reason
