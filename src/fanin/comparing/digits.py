"""The built-in study: two small networks on scikit-learn's handwritten digits.

The digits come with scikit-learn (1,797 images of 8 × 8), so the study needs no network.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn

MLP_DEPTH = 24
"""Deep enough that PyTorch's default and Xavier lose the signal before ReLU, and He keeps it."""

MLP_WIDTH = 64

RECIPES = (
    "zeros",
    "normal_0.01",
    "torch",
    "xavier_normal",
    "kaiming_normal",
    "orthogonal",
    "auto",
)


def load_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images ``(1797, 1, 8, 8)`` with mean 0 and variance 1 over all pixels, and labels 0 … 9."""
    from sklearn.datasets import load_digits as load

    digits = load()
    pixels = torch.tensor(digits.data, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    return (pixels - pixels.mean()) / pixels.std(), labels


def deep_mlp() -> nn.Module:
    """A plain ReLU network: 24 weight layers of width 64, no skip, no norm."""
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(MLP_DEPTH - 1):
        layers += [nn.Linear(MLP_WIDTH, MLP_WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(MLP_WIDTH, 10))


def small_cnn() -> nn.Module:
    """Four 3 × 3 convolutions of 8, 8, 16 and 16 channels in two stages, and a linear head."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "deep ReLU MLP": deep_mlp,
    "small CNN": small_cnn,
}
