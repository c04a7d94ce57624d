"""The nets of ``deep.py``, Fashion-MNIST, and a stack that trains many nets at once."""

import copy
import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

WIDTH, CHANNELS = 128, 32
VALIDATION = 2000
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
}
HOMES = (os.environ.get("FASHION_MNIST", ""), "/usr/share/datasets/fashion-mnist")


@dataclass
class Part:
    x: torch.Tensor
    y: torch.Tensor


@dataclass
class Data:
    """Standardised images: to train on, to choose the rate on, and to report on."""

    name: str
    train: Part
    validation: Part
    test: Part


def load() -> Data:
    """Fashion-MNIST, else scikit-learn's digits; the last training images are for validation."""
    for home in HOMES:
        if home and (Path(home) / "train-images-idx3-ubyte.gz").exists():
            name, (x, y), (test_x, test_y) = "Fashion-MNIST", *map(_read, (home,) * 2, _FILES)
            held = VALIDATION
            break
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
        x, y = torch.tensor(digits.images)[order].float(), torch.tensor(digits.target)[order]
        name, held = "digits (no Fashion-MNIST found)", 200
        x, y, test_x, test_y = x[:1400], y[:1400], x[1400:], y[1400:]
    mean, std = x.mean(), x.std()
    x, test_x = (x - mean) / std, (test_x - mean) / std
    return Data(name, Part(x[:-held], y[:-held]), Part(x[-held:], y[-held:]), Part(test_x, test_y))


_FILES = ("train", "t10k")


def _read(home: str, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    with gzip.open(Path(home) / f"{kind}-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(Path(home) / f"{kind}-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)
    return torch.tensor(x).float(), torch.tensor(y).long()


def mlp(inputs: int, depth: int, activation: str) -> nn.Sequential:
    """``depth`` weight layers, the head among them."""
    act = ACTIVATIONS[activation]
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, WIDTH), act()]
    for _ in range(depth - 2):
        layers += [nn.Linear(WIDTH, WIDTH), act()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def cnn(depth: int, activation: str) -> nn.Sequential:
    """Three convolutions of stride 2, then 4 × 4 maps up to the head."""
    act = ACTIVATIONS[activation]
    layers: list[nn.Module] = [nn.Conv2d(1, CHANNELS, 3, 2, 1), act()]
    for index in range(depth - 2):
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, 2 if index < 2 else 1, 1), act()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))


class Residual(nn.Module):
    """Pre-activation residual net of the same width: what architecture, not weights, would do."""

    def __init__(self, inputs: int, depth: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.first = nn.Linear(inputs, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), act(), nn.Linear(WIDTH, WIDTH)
            )
            for _ in range(max((depth - 2) // 2, 1))
        )
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Stack:
    """Nets of one chain, each layer's weights in one tensor: (nets, …).  SGD with momentum 0.9."""

    def __init__(self, nets: list[nn.Sequential], rates: list[float], device: torch.device) -> None:
        self.chain = [copy.deepcopy(m) for m in nets[0]]
        self.alive = list(range(len(nets)))
        self.rates = torch.tensor(rates, device=device)
        self.places = [i for i, m in enumerate(self.chain) if isinstance(m, nn.Linear | nn.Conv2d)]
        self.parameters = [
            torch.stack([getattr(net[i], name).detach() for net in nets]).to(device)
            for i in self.places
            for name in ("weight", "bias")
        ]
        for p in self.parameters:
            p.requires_grad_()
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, …) -> (nets, batch, classes)."""
        n, h, at = len(self.alive), x, iter(self.parameters)
        if isinstance(self.chain[0], nn.Conv2d):
            h = x[:, None].repeat(1, n, 1, 1)
        else:
            h = x.flatten(1).expand(n, -1, -1)
        for module in self.chain:
            if isinstance(module, nn.Linear):
                w, b = next(at), next(at)
                h = torch.baddbmm(b[:, None], h, w.transpose(1, 2))
            elif isinstance(module, nn.Conv2d):
                w, b = next(at).flatten(0, 1), next(at).flatten()
                h = F.conv2d(h, w, b, module.stride, module.padding, groups=n)
            elif isinstance(module, nn.AdaptiveAvgPool2d):
                h = h.mean((2, 3)).unflatten(1, (n, -1)).transpose(0, 1)
            elif not isinstance(module, nn.Flatten):
                h = module(h)
        return h

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One step of every net; the losses before it."""
        out = self(x)
        n = len(self.alive)
        losses = F.cross_entropy(out.flatten(0, 1), y.repeat(n), reduction="none").view(n, -1)
        gradients = torch.autograd.grad(losses.mean(1).sum(), self.parameters)
        with torch.no_grad():
            torch._foreach_mul_(self.velocity, 0.9)
            torch._foreach_add_(self.velocity, list(gradients))
            for p, v in zip(self.parameters, self.velocity, strict=True):
                p.sub_(self.rates.reshape(-1, *(1,) * (p.dim() - 1)) * v)
        return losses.detach().mean(1)

    def drop(self, dead: torch.Tensor) -> list[int]:
        """Stop the nets marked; their numbers."""
        kept = (~dead).nonzero().flatten()
        gone = [self.alive[i] for i in dead.nonzero().flatten().tolist()]
        self.alive = [self.alive[i] for i in kept.tolist()]
        self.rates = self.rates[kept]
        self.parameters = [p.detach()[kept].requires_grad_() for p in self.parameters]
        self.velocity = [v[kept] for v in self.velocity]
        return gone

    @torch.no_grad()
    def accuracy(self, part: Part, device: torch.device) -> list[float]:
        """Of every living net."""
        right = torch.zeros(len(self.alive), device=device)
        for k in range(0, len(part.x), 500):
            out = self(part.x[k : k + 500].to(device))
            right += (out.argmax(-1) == part.y[k : k + 500].to(device)).sum(1)
        return (right / len(part.x)).tolist()
