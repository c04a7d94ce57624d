"""Residual nets with batch norm: the last norm of each branch at 1, or at 0 as auto starts it.

    python benchmarks/closing_norms.py                     # about ten minutes on one core
    python benchmarks/closing_norms.py --blocks 30         # one depth
    FASHION_MNIST=dir python benchmarks/closing_norms.py   # the .gz files of the data set in dir

relu(x + F(x)), F two convolutions with batch norms, three stages of 8, 16 and 32 channels.  Data:
Fashion-MNIST, else scikit-learn's digits.  150 steps of SGD with momentum 0.9, the same batches of
64 in the same order for every net.  The rate of each start is chosen on seed 0, from one grid, by
the accuracy on training images held back; three other seeds then train at it, and their accuracy on
the test images is printed, with those of seed 0 at every rate.

Starts: "torch" as constructed; "open" is auto with every norm's scale at 1.
"""

import argparse

import torch
from deep_nets import Part, load
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

ARMS = ("torch", "open", "auto")
RATES = (3e-2, 1e-1, 3e-1)
STEPS, BATCH, SEEDS, AT_ONCE = 150, 64, (1, 2, 3), 1000


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def build(blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(1, 8, 5, 4, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    inputs = 8
    for width in (8, 16, 32):
        for k in range(blocks // 3):
            layers.append(Block(inputs, width, 2 if k == 0 and inputs != width else 1))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def accuracy(blocks: int, arm: str, rate: float, seed: int, train: Part, part: Part) -> float:
    """In per cent, after training."""
    torch.manual_seed(seed)
    model = build(blocks)
    if arm != "torch":
        norms = {"*norm2": fanin.schemes.Ones()} if arm == "open" else {}
        fanin.initialize(model, train.x[:128, None], overrides=norms, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        chosen = torch.randint(0, len(train.x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(train.x[chosen, None]), train.y[chosen]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        pairs = zip(part.x.split(AT_ONCE), part.y.split(AT_ONCE), strict=True)
        right = sum(int((model(x[:, None]).argmax(1) == y).sum()) for x, y in pairs)
    return 100 * right / len(part.x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, nargs="*", default=(9, 30))
    options = parser.parse_args()
    data = load()
    print(
        f"{data.name}, SGD with momentum 0.9, {STEPS} steps of {BATCH}, torch {torch.__version__}"
    )
    for blocks in options.blocks:
        for arm in ARMS:
            tried = {
                rate: accuracy(blocks, arm, rate, 0, data.train, data.validation) for rate in RATES
            }
            best = max(tried, key=lambda rate: tried[rate])
            reached = [accuracy(blocks, arm, best, s, data.train, data.test) for s in SEEDS]
            seeds = " ".join(f"{a:.1f}" for a in reached)
            grid = " ".join(f"{a:.1f}" for a in tried.values())
            print(
                f"{blocks} blocks  {arm:6} {sum(reached) / len(reached):5.1f}  rate {best:<5g} "
                f"seeds {seeds}  seed 0 by rate: {grid}",
                flush=True,
            )


if __name__ == "__main__":
    main()
