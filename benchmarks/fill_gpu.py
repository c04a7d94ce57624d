"""Bits and bandwidth of the Triton kernel on a GPU, beside torch in the same run.

    python benchmarks/fill_gpu.py [--elements 256] [--rounds 30]

First checks that every law and dtype has the bits of the CPU; exits with status 1 if one has not.
Then times fills of warm memory with CUDA events, interleaved with torch's own, and prints medians.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable

import torch

from fanin.randomness import (
    Address,
    Distribution,
    NormalDistribution,
    Region,
    TruncatedNormalDistribution,
    UniformDistribution,
    draw,
    fill,
)

ADDRESS = Address(0, "layers.0.mlp.up_proj.weight")
LAWS: dict[str, Distribution] = {
    "normal": NormalDistribution(0, 0.02),
    "normal, shifted": NormalDistribution(-3, 1.5),
    "uniform": UniformDistribution(-0.1, 0.1),
    "truncated normal, 2σ": TruncatedNormalDistribution(0, 0.02, -0.04, 0.04),
    "truncated normal, 5σ": TruncatedNormalDistribution(0, 0.02, -0.1, 0.1),
    "truncated normal, tail": TruncatedNormalDistribution(0, 1, 2.5, math.inf),
}
REGIONS = [
    Region.whole((1 << 20,)),
    Region((2**40,), (2**34 - 777,), (100_000,)),
    Region((500, 4000), (3, 1000), (400, 1000)),
    Region((50, 40, 30), (1, 2, 3), (20, 15, 9), (2, 2, 3)),
]


def wrong_bits() -> list[str]:
    wrong = []
    for name, law in LAWS.items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
            for region in REGIONS:
                here = draw(law, ADDRESS, region.shape, dtype=dtype, region=region)
                there = draw(law, ADDRESS, region.shape, dtype=dtype, region=region, device="cuda")
                if not torch.equal(here.view(kind), there.cpu().view(kind)):
                    share = (here.view(kind) != there.cpu().view(kind)).double().mean()
                    wrong.append(f"{name} {dtype} {region}: {share:.3%} differ")
    return wrong


def milliseconds(action: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    action()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def speeds(elements: int, rounds: int) -> None:
    print(
        f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, {elements >> 20} Mi elements"
    )
    print("\n| | fanin GB/s | torch GB/s | fill_ GB/s | × torch | share of fill_ |")
    print("|---|---|---|---|---|---|")
    for name in ("normal", "uniform", "truncated normal, 2σ", "truncated normal, 5σ"):
        law = LAWS[name]
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            target = torch.empty(elements, dtype=dtype, device="cuda")
            if isinstance(law, NormalDistribution):
                by_torch = lambda t=target: t.normal_(0, 0.02)  # noqa: E731
            elif isinstance(law, UniformDistribution):
                by_torch = lambda t=target: t.uniform_(-0.1, 0.1)  # noqa: E731
            else:
                by_torch = lambda t=target, d=law: torch.nn.init.trunc_normal_(  # noqa: E731
                    t, 0, 0.02, d.low, d.high
                )
            actions = {
                "fanin": lambda t=target, d=law: fill(t, d, ADDRESS),
                "torch": by_torch,
                "fill_": lambda t=target: t.fill_(1.0),
            }
            times: dict[str, list[float]] = {who: [] for who in actions}
            for turn in range(rounds + 3):
                for who, action in actions.items():
                    spent = milliseconds(action)
                    if turn >= 3:
                        times[who].append(spent)
            written = elements * target.element_size() / 1e6
            rate = {who: written / statistics.median(found) for who, found in times.items()}
            print(
                f"| {name} {str(dtype)[6:]} | {rate['fanin']:.0f} | {rate['torch']:.0f} "
                f"| {rate['fill_']:.0f} | {rate['fanin'] / rate['torch']:.2f} "
                f"| {rate['fanin'] / rate['fill_']:.0%} |"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=256, help="millions (2**20)")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: run this where there is one")
        return 2
    wrong = wrong_bits()
    print("\n".join(wrong) if wrong else f"bits: as on the CPU, {len(LAWS)} laws, 4 dtypes")
    speeds(options.elements << 20, options.rounds)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
