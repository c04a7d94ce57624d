"""Advice on what a constructor could set: said where it would help, silent where it is done."""

import pytest
import torch
from torch import nn

import fanin


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
