"""Advice on what a constructor could set: said where it would help, silent where it is done."""

import pytest
import torch
from torch import nn

import fanin


class Residual(nn.Module):
    """Blocks whose last batch norm is gated, as by squeeze and excitation."""

    def __init__(self, blocks, scale, gated):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2 * blocks))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2 * blocks))
        self.gate = nn.Linear(4, 4) if gated else None
        for norm in self.norms[1::2]:
            nn.init.constant_(norm.weight, scale)

    def forward(self, x):
        x = self.stem(x)
        for k in range(0, len(self.convs), 2):
            h = torch.relu(self.norms[k](self.convs[k](x)))
            h = self.norms[k + 1](self.convs[k + 1](h))
            if self.gate is not None:
                h = h * torch.sigmoid(self.gate(h.mean((2, 3))))[..., None, None]
            x = torch.relu(x + h)
        return x


CASES = {
    "gated": (16, 1.0, True, 1),
    "closed by its plan": (16, 1.0, False, 0),
    "closed by its author": (16, 0.0, True, 0),
    "few": (4, 1.0, True, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_deep_residual_nets_could_start_as_the_identity(case):
    blocks, scale, gated, said = CASES[case]
    plan = fanin.plan(Residual(blocks, scale, gated), torch.randn(2, 3, 8, 8))
    assert len([a for a in plan.advice if "zero_init_residual" in a]) == said
