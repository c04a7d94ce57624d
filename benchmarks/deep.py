"""Deep plain nets: the same learning-rate grid for every start, many nets trained at once.

    python benchmarks/deep.py                       # sized to this machine
    python benchmarks/deep.py --depths 30 100 --activations relu gelu --seeds 2
    FASHION_MNIST=dir python benchmarks/deep.py     # the four .gz files of the data set in dir

Data: Fashion-MNIST (Debian's dataset-fashion-mnist), else scikit-learn's digits. Every net of one
depth and activation is trained in one stack: the same batches in the same order, SGD with momentum
0.9, batch 128; per start and rate one accuracy for each seed, on held-out data. A start is shown
at the rate with the best mean. What was run and what was not is printed at the end.
"""

import argparse
import copy
import gzip
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

WIDTH, CHANNELS, BATCH = 128, 32, 128
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "softplus": nn.Softplus,
}
ARMS = ("torch", "xavier_normal", "kaiming_normal", "orthogonal", "lsuv", "anyinit", "auto")
HOMES = (os.environ.get("FASHION_MNIST", ""), "/usr/share/datasets/fashion-mnist")


@dataclass
class Data:
    name: str
    x: torch.Tensor
    y: torch.Tensor
    held_x: torch.Tensor
    held_y: torch.Tensor


def load() -> Data:
    for home in HOMES:
        folder = Path(home)
        if home and (folder / "train-images-idx3-ubyte.gz").exists():
            parts = []
            for kind in ("train", "t10k"):
                with gzip.open(folder / f"{kind}-images-idx3-ubyte.gz") as file:
                    x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
                with gzip.open(folder / f"{kind}-labels-idx1-ubyte.gz") as file:
                    y = np.frombuffer(file.read(), np.uint8, offset=8)
                parts.append((torch.tensor(x), torch.tensor(y).long()))
            (x, y), (hx, hy) = parts
            mean, std = x.float().mean(), x.float().std()
            return Data("Fashion-MNIST", (x - mean) / std, y, (hx - mean) / std, hy)
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.images).float()
    x, y = (x - x.mean()) / x.std(), torch.tensor(digits.target).long()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return Data("digits (no Fashion-MNIST found)", x[:1400], y[:1400], x[1400:], y[1400:])


def mlp(inputs: int, depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, WIDTH), activation()]
    for _ in range(depth - 2):
        layers += [nn.Linear(WIDTH, WIDTH), activation()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def cnn(depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(1, CHANNELS, 3, 2, 1), activation(),
                               nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1), activation()]  # fmt: skip
    for _ in range(depth - 2):
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))


class Residual(nn.Module):
    """Pre-activation residual net of the same width: what architecture, not weights, would do."""

    def __init__(self, inputs: int, depth: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), activation(),
                          nn.Linear(WIDTH, WIDTH))
            for _ in range(max((depth - 2) // 2, 1))
        )  # fmt: skip
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.flatten(1))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def lsuv(model: nn.Module, x: torch.Tensor) -> None:
    """Orthonormal, then each layer's output scaled to unit std in turn (Mishkin & Matas 2016)."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for layer in layers:
            seen: list[float] = []
            handle = layer.register_forward_hook(lambda m, i, o, s=seen: s.append(float(o.std())))
            for _ in range(10):
                model(x)
                if abs(seen[-1] - 1) < 0.1 or not seen[-1] > 0:
                    break
                layer.weight /= seen[-1]
            handle.remove()


def start(model: nn.Module, arm: str, x: torch.Tensor, seed: int) -> None:
    """Initialise in place."""
    torch.manual_seed(seed)
    if arm == "lsuv":
        lsuv(model, x)
    elif arm == "anyinit":
        import anyinit

        anyinit.initialize(model, input_spec=tuple(x.shape), seed=seed)
    else:
        fanin.initialize(model, x, arm, seed=seed)


class Stack:
    """Nets of one chain, each layer's weights in one tensor: (nets, …)."""

    def __init__(self, nets: list[nn.Sequential], device: torch.device) -> None:
        self.chain = [copy.deepcopy(m) for m in nets[0]]
        self.count = len(nets)
        self.weights: dict[int, list[torch.Tensor]] = {}
        for index, module in enumerate(self.chain):
            if isinstance(module, nn.Linear | nn.Conv2d):
                self.weights[index] = [
                    torch.stack([getattr(net[index], name).detach() for net in nets])
                    .to(device)
                    .requires_grad_()
                    for name in ("weight", "bias")
                ]
        self.parameters = [p for pair in self.weights.values() for p in pair]
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, …) -> (nets, batch, classes)."""
        n, h = self.count, x
        convolutional = isinstance(self.chain[0], nn.Conv2d)
        h = h[:, None].repeat(1, n, 1, 1) if convolutional else h.flatten(1).expand(n, -1, -1)
        for index, module in enumerate(self.chain):
            if isinstance(module, nn.Linear):
                w, b = self.weights[index]
                h = torch.baddbmm(b[:, None], h, w.transpose(1, 2))
            elif isinstance(module, nn.Conv2d):
                w, b = self.weights[index]
                h = F.conv2d(
                    h, w.flatten(0, 1), b.flatten(), module.stride, module.padding, groups=n
                )
            elif isinstance(module, nn.AdaptiveAvgPool2d):
                h = h.mean((2, 3)).unflatten(1, (n, -1)).transpose(0, 1)
            elif not isinstance(module, nn.Flatten):
                h = module(h)
        return h

    def step(self, x: torch.Tensor, y: torch.Tensor, rates: torch.Tensor) -> None:
        out = self(x)
        loss = F.cross_entropy(out.flatten(0, 1), y.repeat(self.count)) * self.count
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
                v.mul_(0.9).add_(g)
                p.sub_(rates.reshape(-1, *(1,) * (p.dim() - 1)) * v)

    @torch.no_grad()
    def accuracy(self, data: Data, device: torch.device) -> torch.Tensor:
        right = torch.zeros(self.count, device=device)
        for k in range(0, len(data.held_x), 1000):
            out = self(data.held_x[k : k + 1000].to(device))
            right += (out.argmax(-1) == data.held_y[k : k + 1000].to(device)).sum(1)
        return (right / len(data.held_x)).cpu()


@dataclass
class Result:
    accuracies: dict[str, dict[float, list[float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def run(
    build: Callable[[], nn.Sequential],
    arms: tuple[str, ...],
    rates: tuple[float, ...],
    seeds: int,
    steps: int,
    data: Data,
    device: torch.device,
    memory: int,
) -> Result:
    """Train every (arm, rate, seed) on the same batches."""
    result = Result()
    nets: list[tuple[str, float, int, nn.Sequential]] = []
    sample = data.x[:BATCH].float()
    for arm in arms:
        try:
            for seed in range(seeds):
                torch.manual_seed(seed)
                net = build()
                x = sample[:, None] if isinstance(net[0], nn.Conv2d) else sample
                start(net, arm, x, seed)
                nets += [(arm, rate, seed, net) for rate in rates]
        except ImportError as error:
            result.skipped[arm] = str(error)
        except Exception as error:  # a rival that cannot: said, not hidden
            result.skipped[arm] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
    order = torch.randperm(
        len(data.x) * max(steps * BATCH // len(data.x) + 1, 1),
        generator=torch.Generator().manual_seed(0),
    ) % len(data.x)
    for first in range(0, len(nets), memory):
        part = nets[first : first + memory]
        stack = Stack([net for *_, net in part], device)
        speeds = torch.tensor([rate for _, rate, *_ in part], device=device)
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            stack.step(data.x[rows].to(device).float(), data.y[rows].to(device), speeds)
        for (arm, rate, _, _), value in zip(part, stack.accuracy(data, device), strict=True):
            result.accuracies.setdefault(arm, {}).setdefault(rate, []).append(float(value))
    return result


def train_residual(depth: int, activation: str, data: Data, steps: int, rate: float) -> float:
    net = Residual(data.x[0].numel(), depth, ACTIVATIONS[activation])
    fanin.initialize(net, data.x[:BATCH].float(), "auto", seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(data.x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(net(data.x[rows].float()), data.y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return float((net(data.held_x.float()).argmax(1) == data.held_y).float().mean())


def lines(label: str, result: Result) -> Iterator[str]:
    for arm, by_rate in result.accuracies.items():
        rate = max(by_rate, key=lambda r: np.mean(by_rate[r]))
        seeds = "  ".join(f"{100 * a:5.1f}" for a in by_rate[rate])
        yield (f"{label:28} {arm:15} {100 * np.mean(by_rate[rate]):6.1f}   rate {rate:<8.0e} "
               f"seeds {seeds}")  # fmt: skip
    for arm, reason in result.skipped.items():
        yield f"{label:28} {arm:15} not run: {reason}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    gpu = torch.cuda.is_available()
    parser.add_argument("--depths", type=int, nargs="*", default=[30, 100, 300, 1000])
    parser.add_argument("--cnn-depths", type=int, nargs="*", default=[50])
    parser.add_argument("--activations", nargs="*", default=list(ACTIVATIONS))
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5 if gpu else 3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rates", type=float, nargs="*", default=list(RATES))
    parser.add_argument("--beside", action="store_true", help="a 10-layer and a residual net too")
    options = parser.parse_args()
    device = torch.device("cuda" if gpu else "cpu")
    data, began = load(), time.time()
    inputs = data.x[0].numel()
    print(f"{data.name}, {len(data.x)} samples, {options.steps} steps, {device}; mean held-out "
          f"accuracy in %, at the best of rates {options.rates}\n", flush=True)  # fmt: skip
    left_out = []
    for depth in options.depths:
        for name in options.activations:
            # At 300 layers and more: auto and the best of the others at 100, on a CPU.
            arms = tuple(options.arms)
            if depth >= 300 and not gpu and len(arms) > 2:
                arms = ("orthogonal", "auto")
                left_out.append(f"{name} at {depth} layers: only {', '.join(arms)}")
            memory = max(1, (60_000 if gpu else 4_000) // depth)
            result = run(
                lambda d=depth, n=name: mlp(inputs, d, ACTIVATIONS[n]),
                arms,
                tuple(options.rates),
                options.seeds,
                options.steps,
                data,
                device,
                memory,
            )
            print("\n".join(lines(f"MLP {depth} × {WIDTH} {name}", result)), flush=True)
    for depth in options.cnn_depths:
        for name in [n for n in options.activations if n in ("relu", "gelu", "tanh")]:
            result = run(lambda d=depth, n=name: cnn(d, ACTIVATIONS[n]), tuple(options.arms),
                         tuple(options.rates), options.seeds, options.steps, data, device,
                         max(1, (2_000 if gpu else 400) // depth))  # fmt: skip
            print("\n".join(lines(f"CNN {depth} × {CHANNELS} {name}", result)), flush=True)
    if options.beside:
        for name in options.activations:
            result = run(
                lambda n=name: mlp(inputs, 10, ACTIVATIONS[n]),
                ("auto",),
                tuple(options.rates),
                options.seeds,
                options.steps,
                data,
                device,
                400,
            )
            print("\n".join(lines(f"beside: MLP 10 × {WIDTH} {name}", result)), flush=True)
            best = max((train_residual(32, name, data, options.steps, rate), rate)
                       for rate in options.rates)  # fmt: skip
            print(f"beside: residual net, 30 layers {name}: {100 * best[0]:.1f} at {best[1]:.0e}")
    print(f"\n{time.time() - began:.0f} s. Not run: "
          + ("; ".join(left_out) if left_out else "nothing that was asked for") + ".")  # fmt: skip


if __name__ == "__main__":
    main()
