"""The long tests of the drawn numbers: prints the quality tables of docs/randomness.md.

    python benchmarks/randomness_quality.py [--normals 1000000000]

Kolmogorov-Smirnov at 10⁷ for every law, moments and tails of the normal at 10⁹, and correlations
between elements and between names.  A few minutes on one core.
"""

import argparse
import math

import numpy as np
import torch
from scipy import special, stats

from fanin.randomness import (
    Address,
    Distribution,
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
    draw_range,
)

CHUNK = 1 << 22
TEN_MILLION = 10_000_000


def truncated_cdf(low: float, high: float, z: np.ndarray) -> np.ndarray:
    """The law of a standard normal within bounds, exact in either tail."""
    if high < 0:
        return 1 - truncated_cdf(-high, -low, -z)
    if low > 0:
        start = special.log_ndtr(-low)
        whole = np.expm1(special.log_ndtr(-high) - start)
        return np.expm1(special.log_ndtr(-z) - start) / whole
    return (special.ndtr(z) - special.ndtr(low)) / (special.ndtr(high) - special.ndtr(low))


def kolmogorov() -> None:
    inf = math.inf
    cases: list[tuple[str, Distribution, object]] = [
        ("U(-1, 1)", UniformDistribution(-1, 1), lambda x: (x + 1) / 2),
        ("N(0, 1)", NormalDistribution(0, 1), special.ndtr),
    ]
    for low, high in [(-2, 2), (-1, 3), (-5, 5), (0, inf), (1.9, inf), (5, 6), (8, inf), (1, 1.1)]:
        cases.append(
            (
                f"N(0, 1) within [{low}, {high}]",
                TruncatedNormalDistribution(0, 1, low, high),
                lambda z, low=low, high=high: truncated_cdf(low, high, z),
            )
        )
    print(f"Kolmogorov-Smirnov, n = {TEN_MILLION:,}\n")
    print("| law | float32: D√n | p | float64: D√n | p |\n|---|---|---|---|---|")
    for name, distribution, cdf in cases:
        cells = []
        for dtype in (torch.float32, torch.float64):
            address = Address(2026, f"kolmogorov {name}")
            x = draw_range(distribution, address, 0, TEN_MILLION, dtype).double().numpy()
            x.sort()
            law = cdf(x)  # type: ignore[operator]
            ranks = np.arange(TEN_MILLION + 1) / TEN_MILLION
            distance = max(np.max(ranks[1:] - law), np.max(law - ranks[:-1]))
            scaled = distance * math.sqrt(TEN_MILLION)
            cells += [f"{scaled:.3f}", f"{stats.kstwobign.sf(scaled):.3f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def normal_at_length(n: int) -> None:
    address = Address(2026, "a billion normals")
    limits = [1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0]
    below, above = np.zeros(len(limits)), np.zeros(len(limits))
    sums = np.zeros(5)
    largest = 0.0
    for start in range(0, n, CHUNK):
        z = draw_range(NormalDistribution(0, 1), address, start, min(CHUNK, n - start))
        largest = max(largest, float(z.abs().max()))
        for i, limit in enumerate(limits):
            below[i] += int((z < -limit).sum())
            above[i] += int((z > limit).sum())
        wide = z.double()
        square = wide * wide
        for power, term in ((1, wide), (2, square), (3, square * wide), (4, square * square)):
            sums[power] += float(term.sum())
    print(f"\nN(0, 1) float32, n = {n:,}; largest |z| {largest:.3f}\n")
    print("| tail | expected | below | above | standard errors |\n|---|---|---|---|---|")
    for i, limit in enumerate(limits):
        expected = n * special.ndtr(-limit)
        errors = [(count - expected) / math.sqrt(expected) for count in (below[i], above[i])]
        print(
            f"| {limit}σ | {expected:,.1f} | {below[i]:,.0f} | {above[i]:,.0f} "
            f"| {errors[0]:+.2f}, {errors[1]:+.2f} |"
        )
    print("\n| moment | expected | measured | standard errors |\n|---|---|---|---|")
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        measured = sums[power] / n
        error = (measured - expected) / math.sqrt(variance / n)
        print(f"| {power} | {expected} | {measured:.7f} | {error:+.2f} |")


def chance(worst: float, count: int) -> float:
    """How likely the worst of ``count`` independent normals is this far out or further."""
    return 1 - math.erf(worst / math.sqrt(2)) ** count


def correlations() -> None:
    n = TEN_MILLION
    z = draw_range(NormalDistribution(0, 1), Address(2026, "lags"), 0, n).double().numpy()
    square = (z * z - 1) / math.sqrt(2)
    worst = 0.0
    lags = [*range(1, 130), 1024, 4096, 65536]
    for lag in lags:
        for series in (z, square):
            product = float(np.dot(series[:-lag], series[lag:])) / math.sqrt(n - lag)
            worst = max(worst, abs(product))
    count = 2 * len(lags)
    print(
        f"\nLags 1 to 129, 1024, 4096, 65536 of z and z² at n = {n:,}: the worst of {count} "
        f"correlations is {worst:.2f} standard errors (p = {chance(worst, count):.2f})"
    )
    names, length = 100, 100_000
    rows = np.stack(
        [
            draw_range(NormalDistribution(0, 1), Address(0, f"layers.{i}.weight"), 0, length)
            .double()
            .numpy()
            for i in range(names)
        ]
    )
    product = rows @ rows.T / math.sqrt(length)
    pairs = product[np.triu_indices(names, 1)]
    worst = float(np.abs(pairs).max())
    print(
        f"{len(pairs)} pairs of {names} names at n = {length:,}: the worst correlation is "
        f"{worst:.2f} standard errors (p = {chance(worst, len(pairs)):.2f}), "
        f"their mean square {np.mean(pairs**2):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--normals", type=int, default=1_000_000_000)
    options = parser.parse_args()
    kolmogorov()
    normal_at_length(options.normals)
    correlations()


if __name__ == "__main__":
    main()
