"""How fast tensors are filled, beside torch: prints the tables of docs/randomness.md.

    python benchmarks/fill.py [--elements 64] [--rounds 7] [--threads 1 2]

Every round runs every row once, torch beside fanin, so that a busy moment hits both; the table
shows medians.  The memory is warm, as PyTorch's allocator hands it back.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from fanin.randomness import (
    Address,
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
    fill,
    kernel_in_use,
)

ADDRESS = Address(0, "layers.0.mlp.up_proj.weight")


def rows(elements: int) -> list[tuple[str, torch.Tensor, Callable, object]]:
    """Name, tensor, torch's filling of it, fanin's distribution."""
    side = 1 << (elements.bit_length() // 2)
    single = torch.empty(elements // side, side)
    brain = torch.empty(elements // side, side, dtype=torch.bfloat16)
    half = torch.empty(elements // side, side, dtype=torch.float16)
    kaiming = math.sqrt(2 / side)
    xavier = math.sqrt(6 / (side + elements // side))
    init = torch.nn.init
    return [
        ("normal float32", single, lambda t: init.normal_(t, 0, 0.02), NormalDistribution(0, 0.02)),
        ("normal bfloat16", brain, lambda t: init.normal_(t, 0, 0.02), NormalDistribution(0, 0.02)),
        ("normal float16", half, lambda t: init.normal_(t, 0, 0.02), NormalDistribution(0, 0.02)),
        (
            "uniform float32",
            single,
            lambda t: init.uniform_(t, -0.1, 0.1),
            UniformDistribution(-0.1, 0.1),
        ),
        (
            "uniform bfloat16",
            brain,
            lambda t: init.uniform_(t, -0.1, 0.1),
            UniformDistribution(-0.1, 0.1),
        ),
        (
            "truncated normal float32, 2σ",
            single,
            lambda t: init.trunc_normal_(t, 0, 0.02, -0.04, 0.04),
            TruncatedNormalDistribution(0, 0.02, -0.04, 0.04),
        ),
        (
            "truncated normal float32, 100σ",
            single,
            lambda t: init.trunc_normal_(t, 0, 0.02, -2, 2),
            TruncatedNormalDistribution(0, 0.02, -2, 2),
        ),
        (
            "truncated normal bfloat16, 2σ",
            brain,
            lambda t: init.trunc_normal_(t, 0, 0.02, -0.04, 0.04),
            TruncatedNormalDistribution(0, 0.02, -0.04, 0.04),
        ),
        (
            "Kaiming normal float32",
            single,
            lambda t: init.kaiming_normal_(t, nonlinearity="relu"),
            NormalDistribution(0, kaiming),
        ),
        (
            "Xavier uniform float32",
            single,
            init.xavier_uniform_,
            UniformDistribution(-xavier, xavier),
        ),
    ]


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def large(elements: int, rounds: int, thread_counts: list[int]) -> None:
    table = rows(elements)
    times: dict[tuple[str, str], list[float]] = {}

    def note(row: str, what: str, value: float) -> None:
        times.setdefault((row, what), []).append(value)

    for turn in range(rounds + 1):
        for name, tensor, by_torch, distribution in table:
            measured = {}
            torch.set_num_threads(max(thread_counts))
            measured["fill_"] = seconds(lambda t=tensor: t.fill_(1.0))
            measured["torch"] = seconds(lambda t=tensor, f=by_torch: f(t))
            for count in thread_counts:
                torch.set_num_threads(count)
                measured[f"{count}"] = seconds(lambda t=tensor, d=distribution: fill(t, d, ADDRESS))
            if turn > 0:  # the first round warms up
                for what, value in measured.items():
                    note(name, what, value)

    def median(row: str, what: str) -> float:
        return statistics.median(times[row, what])

    first, last = str(thread_counts[0]), str(thread_counts[-1])
    print(
        f"{elements / 2**20:.0f} Mi elements, median of {rounds}; kernel {kernel_in_use()}, "
        f"torch {torch.__version__}; M elements/s and ratios\n"
    )
    heads = [f"{count} thread{'s' * (count > 1)}" for count in thread_counts]
    print(f"| | torch | {' | '.join(heads)} | × torch | scaling | GB/s | GB/s of fill_ |")
    print("|---" * (7 + len(heads) - 1) + "|")
    for name, tensor, _, _ in table:
        speeds = [elements / median(name, str(count)) / 1e6 for count in thread_counts]
        written = tensor.numel() * tensor.element_size() / 1e9
        print(
            f"| {name} | {elements / median(name, 'torch') / 1e6:.0f} | "
            + " | ".join(f"{speed:.0f}" for speed in speeds)
            + f" | {median(name, 'torch') / median(name, last):.1f} "
            f"| {median(name, first) / median(name, last):.2f} "
            f"| {written / median(name, last):.1f} | {written / median(name, 'fill_'):.1f} |"
        )


SMALL = """
import sys, time, torch
shapes = {shapes}
tensors = [torch.empty(s) for s in shapes]
if sys.argv[1] == "fanin":
    import fanin.randomness as r
    begin = time.perf_counter()
    for i, t in enumerate(tensors):
        r.fill(t, r.NormalDistribution(0.0, 0.02), r.Address(0, f"layers.{{i}}.weight"))
else:
    begin = time.perf_counter()
    for t in tensors:
        torch.nn.init.normal_(t, 0.0, 0.02)
first = time.perf_counter() - begin
begin = time.perf_counter()
for _ in range(20):
    for i, t in enumerate(tensors):
        if sys.argv[1] == "fanin":
            r.fill(t, r.NormalDistribution(0.0, 0.02), r.Address(0, f"layers.{{i}}.weight"))
        else:
            torch.nn.init.normal_(t, 0.0, 0.02)
print(first, (time.perf_counter() - begin) / 20)
"""


def resnet18() -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7)]
    width = 64
    for channels in (64, 128, 256, 512):
        for block in range(2):
            shapes += [(channels, width, 3, 3), (channels, channels, 3, 3)]
            if block == 0 and channels != 64:
                shapes.append((channels, width, 1, 1))
            width = channels
    return [*shapes, (1000, 512), (1000,)]


def small(rounds: int) -> None:
    models = {
        "10-layer MLP, width 256": [s for _ in range(10) for s in ((256, 256), (256,))],
        "10-layer MLP, width 1024": [s for _ in range(10) for s in ((1024, 1024), (1024,))],
        "ResNet-18": resnet18(),
    }
    print("\nA fresh process, milliseconds: all tensors for the first time, and again\n")
    print("| | torch first | fanin first | torch again | fanin again |\n|---|---|---|---|---|")
    for name, shapes in models.items():
        results: dict[str, list[list[float]]] = {"torch": [], "fanin": []}
        for _ in range(rounds):
            for who, found in results.items():
                code = SMALL.format(shapes=shapes)
                out = subprocess.run(
                    [sys.executable, "-c", code, who], capture_output=True, check=True
                ).stdout.split()
                found.append([float(value) * 1e3 for value in out])
        medians = {
            who: [statistics.median(column) for column in zip(*found, strict=True)]
            for who, found in results.items()
        }
        print(
            f"| {name} | {medians['torch'][0]:.2f} | {medians['fanin'][0]:.2f} "
            f"| {medians['torch'][1]:.2f} | {medians['fanin'][1]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=64, help="millions (2**20)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    large(options.elements << 20, options.rounds, options.threads)
    small(options.rounds)


if __name__ == "__main__":
    main()
