"""Diffusion nets from several starts: a UNet and a DiT on scikit-learn's digits, 8 × 8.

    python benchmarks/denoisers.py                 # both, about a quarter of an hour on one core
    python benchmarks/denoisers.py --only unet

The nets predict the noise of 1,000 steps of a linear schedule.  Adam, constant rate, the same
batches of 32 in the same order for every net; the mean squared error on 200 held-out images, whose
noise is the same for all, for every rate of one grid, as a mean of three seeds with the least and
the largest; in brackets the mean after a quarter of the steps.

Starts: "shipped" is the library's own, "open" auto with the last layer of the model and of every
branch at auto's usual size, and with modulations at 1/fan_in; "auto" closes them.
"""

import argparse
import math
import time
from collections.abc import Iterator

import torch
from many_nets import Adam, ManyNets
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.schemes import LeCun, VarianceScaling, Zeros

ARMS, RATES = ("shipped", "open", "auto"), (1e-3, 3e-3, 1e-2)
STEPS, BATCH, SEEDS, HELD = 240, 32, 3, 200
KEPT = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)


def sines(t: torch.Tensor, size: int) -> torch.Tensor:
    angles = t[:, None] * torch.exp(-math.log(1e4) * torch.arange(size // 2) / (size // 2))
    return torch.cat([angles.sin(), angles.cos()], -1)


class Res(nn.Module):
    """Group norm, SiLU and a convolution, twice; the time step is added between the two."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.time = nn.Linear(time, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(e))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class UNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w, e = width, 4 * width
        self.width = w
        self.time1, self.time2 = nn.Linear(w, e), nn.Linear(e, e)
        self.into, self.lower = nn.Conv2d(1, w, 3, 1, 1), nn.Conv2d(w, w, 3, 2, 1)
        self.down1 = nn.ModuleList([Res(w, w, e), Res(w, w, e)])
        self.down2 = nn.ModuleList([Res(w, 2 * w, e), Res(2 * w, 2 * w, e)])
        self.middle = Res(2 * w, 2 * w, e)
        self.up2 = nn.ModuleList([Res(4 * w, 2 * w, e), Res(4 * w, 2 * w, e)])
        self.up1 = nn.ModuleList([Res(3 * w, 2 * w, e), Res(3 * w, 2 * w, e)])
        self.upper = nn.Conv2d(2 * w, 2 * w, 3, 1, 1)
        self.norm, self.out = nn.GroupNorm(4, 2 * w), nn.Conv2d(2 * w, 1, 3, 1, 1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        e = self.time2(F.silu(self.time1(sines(t, self.width))))
        x, skips = self.into(x), []
        for block in self.down1:
            x = block(x, e)
            skips.append(x)
        x = self.lower(x)
        for block in self.down2:
            x = block(x, e)
            skips.append(x)
        x = self.middle(x, e)
        for block in self.up2:
            x = block(torch.cat([x, skips.pop()], 1), e)
        x = self.upper(F.interpolate(x, scale_factor=2.0))
        for block in self.up1:
            x = block(torch.cat([x, skips.pop()], 1), e)
        return self.out(F.silu(self.norm(x)))


class DiTBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            self.modulation(F.silu(c))[:, None].chunk(6, -1)
        )  # fmt: skip
        q, k, v = (
            part.unflatten(-1, (4, -1)).transpose(1, 2)
            for part in self.qkv(self.norm(x) * (1 + scale1) + shift1).chunk(3, -1)
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + gate1 * self.mixed((weights @ v).transpose(1, 2).flatten(2))
        h = F.gelu(self.fc1(self.norm(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.fc2(h)


class DiT(nn.Module):
    def __init__(self, width: int = 32, blocks: int = 6) -> None:
        super().__init__()
        self.width = width
        self.patch, self.out = nn.Conv2d(1, width, 2, 2), nn.Linear(width, 4)
        self.time1, self.time2 = nn.Linear(width, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(DiTBlock(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        c = self.time2(F.silu(self.time1(sines(t, self.width))))
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = h + sines(torch.arange(h.shape[1]), self.width)
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(F.silu(c))[:, None].chunk(2, -1)
        h = self.out(self.norm(h) * (1 + scale) + shift).unflatten(1, (4, 4))
        return h.unflatten(-1, (2, 2)).permute(0, 1, 3, 2, 4).reshape(-1, 1, 8, 8)


NETS = {"unet": UNet, "dit": DiT}


def images() -> torch.Tensor:
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().images).float()[:, None] / 8 - 1
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]


def noised(x: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Images with noise, their time steps, and the noise."""
    t = torch.randint(0, 1000, (len(x),), generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    kept = KEPT[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x + (1 - kept).sqrt() * noise, t, noise


def start(net: nn.Module, arm: str, inputs: tuple[torch.Tensor, ...], seed: int) -> None:
    if arm == "shipped":
        return
    plan = fanin.plan(net, inputs)
    overrides = {}
    if arm == "open":
        roles = fanin.graph.read_roles(fanin.record(net, inputs))
        for name, a in plan.items():
            if a.scheme == Zeros() and name.endswith("weight"):
                role = roles[name]
                branches = max(role.residual_branches, 1)
                after_silu = role.before is not None and role.before.name == "silu"
                scale = (2.81 if after_silu and role.residual_branches else 1.0) / branches
                overrides[name] = VarianceScaling(scale=0.0625 if a.role == "head" else scale)
                if a.role == "modulation":
                    overrides[name] = LeCun()
    fanin.initialize(net, inputs, overrides=overrides, seed=seed)


def batches(train: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        chosen = torch.randint(0, len(train), (BATCH,), generator=generator)
        yield noised(train[chosen], generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(NETS), choices=NETS)
    chosen = parser.parse_args().only
    x = images()
    train, held = x[:1400], noised(x[1400 : 1400 + HELD], torch.Generator().manual_seed(9))
    given = noised(x[:16], torch.Generator().manual_seed(5))[:2]
    print(f"digits, Adam, {STEPS} steps of {BATCH}, torch {torch.__version__}")
    for kind in chosen:
        began, nets, rates = time.time(), [], []
        for arm in ARMS:
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                net = NETS[kind]()
                start(net, arm, given, seed)
                nets += [net] * len(RATES)
                rates += RATES
        many = ManyNets(nets, rates, lambda out, batch: F.mse_loss(out, batch[2]), 2, Adam())
        feed = list(batches(train))
        many.train(feed[: STEPS // 4])
        early = many.losses(held).view(len(ARMS), SEEDS, len(RATES))
        many.train(feed[STEPS // 4 :])
        late = many.losses(held).view(len(ARMS), SEEDS, len(RATES))
        print(f"{kind}  ({time.time() - began:.0f} s)")
        for k, arm in enumerate(ARMS):
            cells = (
                f"{rate:g}: {late[k, :, j].mean():.4f} "
                f"({late[k, :, j].min():.4f}–{late[k, :, j].max():.4f}) "
                f"[{early[k, :, j].mean():.3f}]"
                for j, rate in enumerate(RATES)
            )
            print(f"  {arm:8} " + "   ".join(cells), flush=True)


if __name__ == "__main__":
    main()
