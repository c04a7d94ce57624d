"""Chains of weight, norm, activation without skips, as others start them and as auto does.

    python benchmarks/norm_chains.py                        # about half an hour on one core
    python benchmarks/norm_chains.py --only "batch relu 50" # one chain
    python benchmarks/norm_chains.py --optimizer adam
    FASHION_MNIST=dir python benchmarks/norm_chains.py      # the .gz files of the data set in dir

MLPs of width 64 and, named "image", 3 × 3 convolutions with zero padding and 16 channels on 7 × 7
places.  Data: Fashion-MNIST, else scikit-learn's digits.  200 steps of SGD with momentum 0.9 (or
Adam), the same batches of 64 in the same order for every net.  The rate of each start is chosen on
seed 0, from one grid, by the accuracy on training images held back; three other seeds then train
at it, and their accuracy on the test images is printed, with those of seed 0 at every rate.

Starts: "torch" as constructed; "he" is the recipe kaiming_normal, whose norms start at 1 and 0.
"""

import argparse

import torch
from deep_nets import Part, load
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

ARMS = ("torch", "he", "auto")
RATES = {"sgd": (1e-3, 1e-2, 1e-1), "adam": (3e-4, 1e-3, 3e-3, 1e-2)}
STEPS, BATCH, SEEDS, AT_ONCE = 200, 64, (1, 2, 3), 1000
WIDTH, CHANNELS = 64, 16
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
CHAINS = (
    *(f"batch relu {depth}" for depth in (10, 20, 50, 100)),
    *(f"batch {name} {depth}" for name in ("gelu", "tanh") for depth in (20, 50)),
    *(f"layer {name} {depth}" for name in ("gelu", "tanh") for depth in (20, 50)),
    *(f"image relu {depth}" for depth in (20, 50)),
)


def build(chain: str) -> nn.Sequential:
    kind, name, depth = chain.split()
    activation = ACTIVATIONS[name]
    layers: list[nn.Module] = []
    if kind == "image":
        for k in range(int(depth)):
            first = nn.Conv2d(1, CHANNELS, 5, 4, 2)
            layers.append(nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1) if k else first)
            layers += [nn.BatchNorm2d(CHANNELS), activation()]
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)
        )
    norm = nn.BatchNorm1d if kind == "batch" else nn.LayerNorm
    for _ in range(int(depth)):
        layers += [nn.LazyLinear(WIDTH), norm(WIDTH), activation()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(WIDTH, 10))


def started(chain: str, arm: str, seed: int, x: torch.Tensor) -> nn.Sequential:
    torch.manual_seed(seed)
    model = build(chain)
    model(x[:2])  # gives lazy layers their shapes, and torch's start
    for module in model:
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
    if arm != "torch":
        fanin.initialize(model, x[:128], "kaiming_normal" if arm == "he" else "auto", seed=seed)
    return model


def accuracy(
    chain: str, arm: str, rate: float, seed: int, data: tuple[Part, Part], kind: str
) -> float:
    """In per cent, after training."""
    train, part = data
    model = started(chain, arm, seed, train.x[:, None])
    parameters = model.parameters()
    if kind == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=rate)
    else:
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
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
    parser.add_argument("--only", nargs="*", default=CHAINS, help='such as "batch relu 50"')
    parser.add_argument("--optimizer", choices=tuple(RATES), default="sgd")
    options = parser.parse_args()
    data = load()
    held_back, test = (data.train, data.validation), (data.train, data.test)
    print(f"{data.name}, {options.optimizer}, {STEPS} steps of {BATCH}, torch {torch.__version__}")
    for chain in options.only:
        for arm in ARMS:
            tried = {
                rate: accuracy(chain, arm, rate, 0, held_back, options.optimizer)
                for rate in RATES[options.optimizer]
            }
            best = max(tried, key=lambda rate: tried[rate])
            reached = [accuracy(chain, arm, best, s, test, options.optimizer) for s in SEEDS]
            seeds = " ".join(f"{a:.1f}" for a in reached)
            grid = " ".join(f"{a:.1f}" for a in tried.values())
            print(
                f"{chain:15} {arm:6} {sum(reached) / len(reached):5.1f}  rate {best:<5g} "
                f"seeds {seeds}  seed 0 by rate: {grid}",
                flush=True,
            )


if __name__ == "__main__":
    main()
