"""What the examples share: scikit-learn's digits, plain networks, and a short training loop."""

from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import nn


def load() -> tuple[torch.Tensor, torch.Tensor]:
    """1,797 images of 8 × 8, standardised as a whole, and their labels."""
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(digits.target)


def mlp(depth: int, width: int = 64, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """``depth`` linear layers with the activation between them, 64 pixels in and 10 classes out."""
    sizes = [64, *[width] * (depth - 1), 10]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


def train(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    steps: int = 100,
    learning_rate: float = 0.05,
    seed: int = 0,
    clip: float | None = None,
) -> list[float]:
    """Plain SGD with cross-entropy on batches of 64; the loss of every step."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=order)
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of right answers."""
    return (model(x).argmax(-1) == y).float().mean().item()
