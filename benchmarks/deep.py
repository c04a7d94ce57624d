"""Deep plain nets: which start trains at which depth, rates chosen and results reported apart.

    python benchmarks/deep.py --out deep.json           # goes on where a killed run stopped
    python benchmarks/deep.py --out deep.json --minutes 60
    python benchmarks/deep.py --out deep.json --show    # the table of what has been run
    python benchmarks/deep.py --only mlp/100/relu       # cells whose name begins so
    FASHION_MNIST=dir python benchmarks/deep.py …       # the four .gz files of the data set in dir

Data: Fashion-MNIST (Debian's dataset-fashion-mnist), else scikit-learn's digits.  SGD, momentum
0.9, the same batches in the same order for every net that trains for so many steps: 200, CNNs 100,
300 layers and more 600, and beside those nets of 10 layers and residual ones for 600 as well.

For each start (arm) the learning rate is chosen on seed 0, from one grid for all arms, by the
accuracy on training images held back for that.  The other seeds then train at that rate, and their
accuracy on the test images is reported, each seed's.  The start "advised" is auto at the rate in
its plan's advice, without any choice.  A net whose loss is no longer finite is stopped and counts
as 10 %; one whose loss is still that of chance halfway is stopped there and counts with the
accuracy that it has.  At 300 layers and more the rivals are one: the one that did best at 100.
Cells are run in order of importance until the time is up; what was not run is listed.
"""

import argparse
import copy
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deep_nets import Data, Part, Residual, Stack, cnn, load, mlp
from deep_table import table
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

RIVALS = ("torch", "xavier_normal", "kaiming_normal", "orthogonal", "lsuv", "anyinit")
ARMS = ("auto", *RIVALS)
ADVISED = "advised"
"""auto at the rate that its own advice names: nothing is chosen."""
MAIN = ("relu", "gelu", "silu", "tanh")
MLP_ACTIVATIONS = (*MAIN, "leaky_relu", "softplus")
BEYOND = ("sigmoid", "elu", "selu", "mish")
STEPS, CNN_STEPS, DEEP_STEPS = 200, 100, 600
CHANCE = 0.1
UNLEARNT = 0.005
"""Nats below ln 10 that a loss, as a mean of 20 steps, must have reached halfway."""


@dataclass(frozen=True)
class Cell:
    """One start of one net: ``mlp/100/relu/auto``."""

    kind: str
    depth: int
    activation: str
    arm: str
    seeds: int
    steps: int = STEPS

    @property
    def name(self) -> str:
        long = f"@{self.steps}" if self.steps > STEPS else ""
        return f"{self.kind}{long}/{self.depth}/{self.activation}/{self.arm}"

    @property
    def rates(self) -> tuple[float, ...]:
        """One grid for all arms of a depth."""
        if self.depth >= 1000:
            return (3e-5, 1e-4, 3e-4, 1e-3)
        if self.depth >= 300:
            return (1e-4, 3e-4, 1e-3, 3e-3)
        if self.kind == "cnn":
            return (1e-3, 3e-3, 1e-2, 3e-2)
        return (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def cells(best_rival: Callable[[str], str | None]) -> Iterator[Cell]:
    """All cells, the most important first."""
    for name in MLP_ACTIVATIONS:
        yield Cell("mlp", 1000, name, ADVISED, 3, DEEP_STEPS)
    for name in MLP_ACTIVATIONS:
        yield Cell("mlp", 10, name, "auto", 3, DEEP_STEPS)
        yield Cell("residual", 30, name, "auto", 3, DEEP_STEPS)
    for name in MLP_ACTIVATIONS:
        yield Cell("mlp", 300, name, ADVISED, 3, DEEP_STEPS)
    for name in ("relu", "tanh", "gelu", "silu", "leaky_relu", "softplus"):
        for arm in ARMS:
            yield Cell("mlp", 100, name, arm, 5)
    for name in MAIN:
        yield Cell("mlp", 10, name, "auto", 3)
        yield Cell("residual", 30, name, "auto", 3)
    for name in BEYOND:
        for arm in ("auto", "lsuv"):
            yield Cell("mlp", 100, name, arm, 3)
    for depth in (300, 1000):
        for name in MLP_ACTIVATIONS:
            rival = best_rival(name)
            if rival is not None:
                yield Cell("mlp", depth, name, rival, 3, DEEP_STEPS)
    for arm in ARMS:
        for name in MLP_ACTIVATIONS:
            yield Cell("mlp", 30, name, arm, 5)
    for arm in ARMS:
        for name in ("relu", "gelu", "tanh"):
            yield Cell("cnn", 50, name, arm, 5, CNN_STEPS)
    for depth in (300, 1000):
        for name in MLP_ACTIVATIONS:
            yield Cell("mlp", depth, name, "auto", 3, DEEP_STEPS)


def build(cell: Cell, inputs: int) -> nn.Module:
    if cell.kind == "residual":
        return Residual(inputs, cell.depth, cell.activation)
    make = cnn(cell.depth, cell.activation) if cell.kind == "cnn" else None
    return make or mlp(inputs, cell.depth, cell.activation)


def started(cell: Cell, data: Data, seed: int, batch: int) -> nn.Module:
    """A net initialised by the cell's arm."""
    torch.manual_seed(seed)
    net, x = build(cell, data.train.x[0].numel()), data.train.x[:batch]
    x = x[:, None] if cell.kind == "cnn" else x
    if cell.arm == "anyinit":
        import anyinit

        anyinit.initialize(net, input_spec=tuple(x.shape), seed=seed)
    else:
        fanin.initialize(net, x, "auto" if cell.arm == ADVISED else cell.arm, seed=seed)
    return net


@dataclass
class Trainer:
    """Trains nets of a cell, several in one stack where they are chains."""

    data: Data
    steps: int
    batch: int
    device: torch.device

    def at_once(self, cell: Cell) -> int:
        """How many nets one stack trains: what fits into about 2 GB."""
        return 1 if cell.kind == "residual" else max(1, 1000 // cell.depth)

    def run(
        self, cell: Cell, seeds: list[int], rates: list[float], *, test: bool
    ) -> list[dict[str, Any]]:
        """One record for each seed and rate, both lists side by side."""
        nets = {seed: started(cell, self.data, seed, self.batch) for seed in dict.fromkeys(seeds)}
        records: list[dict[str, Any]] = []
        at_once = self.at_once(cell)
        for k in range(0, len(seeds), at_once):
            some = list(zip(seeds[k : k + at_once], rates[k : k + at_once], strict=True))
            train = self._alone if cell.kind == "residual" else self._stacked
            results = train([nets[s] for s, _ in some], [r for _, r in some], test=test)
            for (seed, rate), (accuracy, stopped) in zip(some, results, strict=True):
                records.append(
                    {"seed": seed, "rate": rate, "accuracy": accuracy, "stopped": stopped}
                )
        return records

    def _rows(self) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(self.steps):
            yield torch.randint(len(self.data.train.x), (self.batch,), generator=generator)

    def _part(self, test: bool) -> Part:
        return self.data.test if test else self.data.validation

    def _stacked(
        self, nets: list[Any], rates: list[float], *, test: bool
    ) -> list[tuple[float, int | None]]:
        stack = Stack(nets, rates, self.device)
        stopped: dict[int, int] = {}
        found: dict[int, float] = {}
        recent: list[torch.Tensor] = []
        for step, rows in enumerate(self._rows()):
            x, y = self.data.train.x[rows], self.data.train.y[rows]
            losses = stack.step(x.to(self.device), y.to(self.device))
            dead = ~torch.isfinite(losses)
            recent = [*recent[-19:], losses]
            if step == self.steps // 2:
                unlearnt = torch.stack(recent).mean(0) > math.log(10) - UNLEARNT
                if unlearnt.any():
                    accuracy = stack.accuracy(self._part(test), self.device)
                    found.update(zip(stack.alive, accuracy, strict=True))
                dead |= unlearnt
            if dead.any():
                stopped.update(dict.fromkeys(stack.drop(dead), step))
                recent = [r[~dead] for r in recent]
            if not stack.alive:
                break
        if stack.alive:
            accuracy = stack.accuracy(self._part(test), self.device)
            found.update(zip(stack.alive, accuracy, strict=True))
        return [(found.get(i, CHANCE), stopped.get(i)) for i in range(len(nets))]

    def _alone(
        self, nets: list[nn.Module], rates: list[float], *, test: bool
    ) -> list[tuple[float, int | None]]:
        net = copy.deepcopy(nets[0]).to(self.device)
        optimizer = torch.optim.SGD(net.parameters(), lr=rates[0], momentum=0.9)
        for rows in self._rows():
            optimizer.zero_grad()
            x, y = self.data.train.x[rows].to(self.device), self.data.train.y[rows].to(self.device)
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        part = self._part(test)
        with torch.no_grad():
            right = net(part.x.to(self.device)).argmax(1).cpu() == part.y
        return [(float(right.float().mean()), None)]


def run_cell(cell: Cell, trainer: Trainer, record: dict[str, Any]) -> Iterator[None]:
    """Fill the record of a cell: its choice of rate first, then its seeds; yields in between."""
    record["steps"] = trainer.steps
    if "choice" not in record and cell.arm != ADVISED:
        rates = list(cell.rates)
        record["choice"] = trainer.run(cell, [0] * len(rates), rates, test=False)
        yield
    if "rate" not in record:
        record["rate"] = (
            advised_rate(cell, trainer)
            if cell.arm == ADVISED
            else max(record["choice"], key=lambda r: r["accuracy"])["rate"]
        )
    found = record.setdefault("seeds", [])
    while len(found) < cell.seeds:
        left = range(len(found) + 1, cell.seeds + 1)
        seeds = list(left)[: trainer.at_once(cell)]
        found += trainer.run(cell, seeds, [record["rate"]] * len(seeds), test=True)
        yield


def advised_rate(cell: Cell, trainer: Trainer) -> float:
    """The rate in auto's own advice."""
    net = build(cell, trainer.data.train.x[0].numel())
    advice = " ".join(fanin.plan(net, trainer.data.train.x[: trainer.batch]).advice)
    found = re.search(r"learning rate of about (\S+)", advice)
    if found is None:
        raise ValueError(f"no rate in the advice: {advice!r}")
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("deep.json"))
    parser.add_argument("--show", action="store_true", help="print the table and stop")
    parser.add_argument("--only", nargs="*", default=[""], help="beginnings of cell names")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    done: dict[str, Any] = results.setdefault("cells", {})

    def best_rival(activation: str) -> str | None:
        tried = {a: done.get(f"mlp/100/{activation}/{a}", {}).get("choice") for a in RIVALS}
        known = {a: max(r["accuracy"] for r in c) for a, c in tried.items() if c}
        return max(known, key=lambda a: known[a]) if known else None

    def save() -> None:
        partial = options.out.with_suffix(".part")
        partial.write_text(json.dumps(results, indent=1))
        partial.replace(options.out)

    if options.show:
        print(table(results, [c.name for c in cells(best_rival)]))
        return
    torch.set_flush_denormal(True)
    data = load()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results |= {"data": data.name, "batch": options.batch, "device": str(device)}
    end = time.time() + 60 * options.minutes
    for cell in cells(best_rival):
        if not cell.name.startswith(tuple(options.only)) or time.time() > end:
            continue
        record = done.setdefault(cell.name, {})
        if len(record.get("seeds", [])) >= cell.seeds or "error" in record:
            continue
        began = time.process_time()
        try:
            for _ in run_cell(cell, Trainer(data, cell.steps, options.batch, device), record):
                save()
                if time.time() > end:
                    break
        except Exception as error:  # a rival that cannot: said, not hidden
            record["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        record["cpu_seconds"] = record.get("cpu_seconds", 0) + time.process_time() - began
        save()
        print(f"{cell.name:32} {record['cpu_seconds']:6.0f} s  "
              f"{[round(100 * r['accuracy'], 1) for r in record.get('seeds', [])]} "
              f"{record.get('error', '')}", flush=True)  # fmt: skip
    print(table(results, [c.name for c in cells(best_rival)]))


if __name__ == "__main__":
    main()
