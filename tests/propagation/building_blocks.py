"""Small modules and batches that the tests of propagation are made of."""

import torch
from torch import nn

N = 256


class Module(nn.Module):
    """A module from a function of itself and the input, and its parts."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x):
        return self.run(self, *x)


def dense(a=N, b=N, bias=False):
    layer = nn.Linear(a, b, bias=bias)
    nn.init.normal_(layer.weight, std=(1 / a) ** 0.5)
    return layer


def batch(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
