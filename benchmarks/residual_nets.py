"""Residual nets without normalisation: which start trains at which depth.

    python benchmarks/residual_nets.py                     # all cells, about an hour on one core
    python benchmarks/residual_nets.py --only staged/9     # cells whose name begins so
    FASHION_MNIST=dir python benchmarks/residual_nets.py   # the .gz files of the data set in dir

Data: Fashion-MNIST, else scikit-learn's digits.  SGD with momentum 0.9, the same batches of 64 in
the same order for every net.  The rate of each start is chosen on seed 0, from one grid for all of
them, by the accuracy on training images held back for that; three other seeds then train at that
rate, and their accuracy on the test images is printed, each seed's, with the accuracies of seed 0
at every rate.

staged: relu(x + F(x)), three stages of 8, 16 and 32 channels, 1 × 1 convolutions as shortcuts.
plain: x + F(relu(x)) at one width, branches of one, two or three convolutions.

Starts: "torch" and "kaiming_normal" are recipes; "writers" is He within branches and L^(−½) on
their last layer, "auto" whatever fanin chooses.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from deep_nets import Data, Part, load
from many_nets import ManyNets, Momentum
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.schemes import VarianceScaling

ARMS = ("torch", "kaiming_normal", "writers", "auto")
RATES = (1e-2, 3e-2, 1e-1, 3e-1)
STEPS, BATCH, SEEDS = 150, 64, 3


class Block(nn.Module):
    """x + F(x), a norm nowhere; the activation before the branch or behind the sum."""

    def __init__(self, inputs: int, outputs: int, layers: int, stride: int, *, after: bool) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * layers]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride if k == 0 else 1, 1)
            for k, (a, b) in enumerate(pairwise(widths))
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x if self.after else F.relu(x)
        for layer in self.layers[:-1]:
            h = F.relu(layer(h))
        x = self.shortcut(x) + self.layers[-1](h)
        return F.relu(x) if self.after else x


class Net(nn.Module):
    """A convolution of stride 4, blocks, the mean over places and a linear layer."""

    def __init__(self, blocks: list[Block], width: int, last: int) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(1, width, 5, 4, 2), nn.Sequential(*blocks)
        self.head = nn.Linear(last, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.blocks(F.relu(self.stem(x)))).mean((2, 3)))


@dataclass(frozen=True)
class Cell:
    kind: str
    blocks: int
    layers: int = 2

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.blocks}" + (f"/{self.layers}" if self.layers != 2 else "")

    def build(self) -> nn.Module:
        if self.kind == "plain":
            blocks = [Block(8, 8, self.layers, 1, after=False) for _ in range(self.blocks)]
            return Net(blocks, 8, 8)
        blocks, inputs = [], 8
        for stage, width in enumerate((8, 16, 32)):
            for k in range(self.blocks // 3):
                stride = 2 if stage and k == 0 else 1
                blocks.append(Block(inputs, width, self.layers, stride, after=True))
                inputs = width
        return Net(blocks, 8, 32)


CELLS = (
    Cell("staged", 9),
    Cell("staged", 30),
    Cell("plain", 50),
    Cell("plain", 10, 3),
    Cell("plain", 10, 1),
)


def start(net: nn.Module, arm: str, x: torch.Tensor, seed: int) -> None:
    if arm != "writers":
        fanin.initialize(net, x, arm, seed=seed)
        return
    plan = fanin.plan(net, x)
    graph = fanin.record(net, x)
    roles = fanin.graph.read_roles(graph)
    gains = {
        name: 2.0 if role.before is not None and role.before.name == "relu" else 1.0
        for name, role in roles.items()
    }
    overrides = {
        name: VarianceScaling(scale=gains[name] / max(roles[name].residual_branches, 1))
        for name in plan
        if roles[name].branch is not None and name.endswith("weight")
    }
    fanin.initialize(net, x, overrides=overrides, seed=seed)


def train(
    cell: Cell, wanted: list[tuple[str, float, int]], data: Data, part: Part
) -> tuple[list[float], list[float]]:
    """Accuracy on ``part`` in per cent, and the mean loss of the last 40 steps, of each net."""
    nets = []
    for arm, _, seed in wanted:
        torch.manual_seed(seed)
        net = cell.build()
        start(net, arm, data.train.x[:128, None], seed)
        nets.append(net)
    many = ManyNets(
        nets, [rate for _, rate, _ in wanted],
        lambda out, batch: F.cross_entropy(out, batch[1]), 1, Momentum(),
    )  # fmt: skip
    losses = many.train(batches(data.train))
    right = torch.zeros(len(nets))
    for k in range(0, len(part.x), 500):
        right += (many.outputs((part.x[k : k + 500, None],)).argmax(-1) == part.y[k : k + 500]).sum(
            1
        )
    return (100 * right / len(part.x)).tolist(), losses[-40:].mean(0).tolist()


def batches(part: Part) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        chosen = torch.randint(0, len(part.x), (BATCH,), generator=generator)
        yield part.x[chosen, None], part.y[chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[""])
    names = tuple(parser.parse_args().only)
    data = load()
    print(
        f"{data.name}, SGD with momentum 0.9, {STEPS} steps of {BATCH}, torch {torch.__version__}"
    )
    for cell in CELLS:
        if not cell.name.startswith(names):
            continue
        began = time.time()
        grid = [(arm, rate, 0) for arm in ARMS for rate in RATES]
        tried, _ = train(cell, grid, data, data.validation)
        best = {}
        for arm in ARMS:
            of_arm = [(a, r) for (name, r, _), a in zip(grid, tried, strict=True) if name == arm]
            best[arm] = max(of_arm)[1]
        chosen = [(arm, best[arm], 1 + seed) for arm in ARMS for seed in range(SEEDS)]
        reached, losses = train(cell, chosen, data, data.test)
        print(f"{cell.name}  ({time.time() - began:.0f} s)")
        for k, arm in enumerate(ARMS):
            own = slice(k * SEEDS, (k + 1) * SEEDS)
            seeds = " ".join(f"{a:.1f}" for a in reached[own])
            rates = " ".join(f"{a:.0f}" for a in tried[k * len(RATES) : (k + 1) * len(RATES)])
            mean, loss = sum(reached[own]) / SEEDS, sum(losses[own]) / SEEDS
            print(
                f"  {arm:15} {mean:5.1f}  rate {best[arm]:<6g} seeds {seeds}  "
                f"loss {loss:.3f}  seed 0 by rate: {rates}",
                flush=True,
            )


if __name__ == "__main__":
    main()
