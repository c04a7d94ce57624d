"""Train together or one by one?  CPU time a network and step, by size of network and of stack.

    python benchmarks/ensemble.py

Prints a table; ``fanin.comparing.how_to_train`` takes its limit from it.  CPU time rather than
time on the wall, on one thread: it is the same whatever else runs.
"""

import statistics
import time
from functools import partial

import torch
from torch import nn

from fanin.comparing.course import Course, OptimizerChoice
from fanin.comparing.dataset import Samples, batch_rows
from fanin.comparing.ensemble import train_together
from fanin.comparing.one_by_one import train_one
from fanin.comparing.task import task_for

STEPS = 6
REPEATS = 3


def mlp(width: int, depth: int = 8) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def cnn(channels: int, depth: int = 4) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 64, 10))


def course(shape: tuple[int, ...]) -> Course:
    x = torch.randn(256, *shape)
    y = torch.randint(0, 10, (256,))
    rows = batch_rows(256, 64, STEPS)
    return Course(Samples(x, y), None, rows, task_for(None, y), OptimizerChoice("sgd"))


def cpu_milliseconds(work) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e3 * statistics.median(times) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, batch 64, CPU ms a network and step")
    print(f"{'network':16} {'parameters':>10} {'alone':>8} {'of 7':>8} {'of 14':>8} {'of 28':>8}")
    cases = [(f"mlp 8 x {w}", lambda w=w: mlp(w), (w,)) for w in (16, 64, 128, 256, 512)]
    cases += [(f"cnn 4 x {c}", lambda c=c: cnn(c), (1, 8, 8)) for c in (4, 8, 16, 32, 64)]
    for name, build, shape in cases:
        shared = course(shape)
        model = build()
        count = sum(p.numel() for p in model.parameters())
        cells = [cpu_milliseconds(partial(train_one, model, 1e-3, shared, _ignore))]
        for size in (7, 14, 28):
            models = [build() for _ in range(size)]
            rates = [1e-3] * size
            spent = cpu_milliseconds(partial(train_together, models, rates, shared, _ignore))
            cells.append(spent / size)
        print(f"{name:16} {count:10,} " + " ".join(f"{c:8.2f}" for c in cells), flush=True)


def _ignore(steps: int) -> None:
    pass


if __name__ == "__main__":
    main()
