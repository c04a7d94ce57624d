"""Modulations: closed where zero lets streams pass, open where it would shut a path."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.schemes import LeCun, Zeros


class Modulated(nn.Module):
    """Blocks that a plain vector scales, shifts and, where asked, gates; no time step."""

    def __init__(self, *, plus=1.0, gated=False, zero_ends=False, blocks=2, width=8):
        super().__init__()
        self.plus, self.parts = plus, 3 if gated else 2
        self.inner = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(blocks))
        self.ends = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(blocks))
        self.modulation = nn.ModuleList(nn.Linear(width, self.parts * width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        if zero_ends:
            for end in self.ends:
                nn.init.zeros_(end.weight)

    def forward(self, x, c):
        for inner, end, modulation in zip(self.inner, self.ends, self.modulation, strict=True):
            scale, shift, *gate = modulation(F.silu(c))[:, None].chunk(self.parts, -1)
            h = self.norm(x) * (self.plus + scale) if self.plus else self.norm(x) * scale
            h = end(F.gelu(inner(h + shift)))
            x = x + gate[0] * h if gate else x + h
        return x


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 5, 8, generator=generator), torch.randn(4, 8, generator=generator)


def schemes(**settings):
    plan = fanin.plan(Modulated(**settings), batch())
    return [plan[f"modulation.{k}.weight"].scheme for k in range(2)]


@pytest.mark.parametrize("gated", [False, True])
def test_a_modulation_starts_at_zero_without_any_time_step(gated):
    assert schemes(gated=gated) == [Zeros()] * 2


def test_a_scale_to_which_nothing_is_added_is_not_zero():
    assert schemes(plus=0.0) == [LeCun()] * 2


def test_gates_of_branches_that_their_author_closed_stay_open():
    """A gate at zero before a branch end at zero: neither would ever get a gradient."""
    assert schemes(gated=True, zero_ends=True) == [LeCun()] * 2
    assert schemes(gated=False, zero_ends=True) == [Zeros()] * 2


@pytest.mark.parametrize("settings", [{}, {"gated": True}, {"gated": True, "zero_ends": True}])
def test_every_weight_moves_within_three_steps(settings):
    model, (x, c) = Modulated(**settings), batch()
    fanin.initialize(model, (x, c), seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    goal = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(x, c), goal).backward()
        optimizer.step()
    assert [n for n, p in model.named_parameters() if torch.equal(p, before[n])] == []
