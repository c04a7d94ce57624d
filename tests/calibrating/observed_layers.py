"""What each layer's output is on a batch, seen by hooks: independent of fanin's recorder."""

import torch
from torch import nn

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def outputs(model: nn.Module, x: object) -> dict[str, torch.Tensor]:
    """Name of every linear layer and convolution -> its output."""
    seen: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: seen.__setitem__(name, out.detach())
        )
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        model(*x) if isinstance(x, tuple) else model(x)
    for handle in handles:
        handle.remove()
    return seen


def stds(model: nn.Module, x: object) -> dict[str, float]:
    """Name of every layer -> std of its output over the batch."""
    return {name: float(out.std(correction=0)) for name, out in outputs(model, x).items()}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(count: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))


def chain(depth: int = 12, width: int = 32, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    hidden = [m for _ in range(depth) for m in (nn.Linear(width, width), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


class Residual(nn.Module):
    """Branches without norms: the stream grows, and every layer sees another power."""

    def __init__(self, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.inner = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(blocks))
        self.outer = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(blocks))
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = x + outer(torch.relu(inner(x)))
        return self.head(x)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 32, 3, stride=2, groups=4),
        nn.BatchNorm2d(32),
        nn.GELU(),
        nn.ConvTranspose2d(32, 8, 4, stride=2),
        nn.Tanh(),
        nn.ConvTranspose2d(8, 8, 2, groups=2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 7),
    )


def block() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
