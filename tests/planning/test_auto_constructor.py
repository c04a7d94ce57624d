"""Advice on what a constructor could set: said where it would help, silent where it is done."""

import pytest
import torch
from torch import nn

import fanin


class Modulated(nn.Module):
    def __init__(self, blocks, zero):
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(8, 8) for _ in range(blocks))
        self.modulation = nn.ModuleList(nn.Linear(8, 16) for _ in range(blocks))
        self.norm = nn.LayerNorm(8, elementwise_affine=False)
        if zero:
            for layer in self.modulation:
                nn.init.zeros_(layer.weight)

    def forward(self, x, c):
        for inner, modulation in zip(self.inner, self.modulation, strict=True):
            scale, shift = modulation(nn.functional.silu(c))[:, None].chunk(2, -1)
            x = x + inner(self.norm(x) * (1 + scale) + shift)
        return x


@pytest.mark.parametrize(("blocks", "zero", "said"), [(1, False, 1), (3, False, 1), (3, True, 0)])
def test_random_modulation_is_advised_against(blocks, zero, said):
    plan = fanin.plan(Modulated(blocks, zero), (torch.randn(2, 5, 8), torch.randn(2, 8)))
    found = [a for a in plan.advice if "adaLN-Zero" in a]
    assert len(found) == said
    assert all("modulation.0.weight" in a for a in found)


class Residual(nn.Module):
    def __init__(self, blocks, scale):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2 * blocks))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2 * blocks))
        for norm in self.norms[1::2]:
            nn.init.constant_(norm.weight, scale)

    def forward(self, x):
        x = self.stem(x)
        for k in range(0, len(self.convs), 2):
            h = torch.relu(self.norms[k](self.convs[k](x)))
            x = torch.relu(x + self.norms[k + 1](self.convs[k + 1](h)))
        return x


@pytest.mark.parametrize(("blocks", "scale", "said"), [(16, 1.0, 1), (16, 0.0, 0), (4, 1.0, 0)])
def test_deep_residual_nets_with_batch_norm_could_start_as_the_identity(blocks, scale, said):
    plan = fanin.plan(Residual(blocks, scale), torch.randn(2, 3, 8, 8))
    assert len([a for a in plan.advice if "zero_init_residual" in a]) == said
