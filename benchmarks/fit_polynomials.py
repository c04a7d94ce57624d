"""Where the coefficients of fanin.randomness.polynomials come from.

    python benchmarks/fit_polynomials.py

Fits each polynomial anew and prints its coefficients beside the error of the fit and the error of
those that ship.  float32: least squares reweighted towards minimax (Lawson), over doubles.
float64: interpolation at Chebyshev nodes, over 60 digits (needs mpmath).  A fit is free in its
last digits; the shipped ones are pinned, because they fix the bits.
"""

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
from scipy import special

from fanin.randomness import polynomials as p

Function = Callable[[np.ndarray], np.ndarray]


def lawson(function: Function, low: float, high: float, count: int) -> np.ndarray:
    """Coefficients, lowest power first, that make the largest relative error nearly least."""
    nodes = np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    x = (low + high) / 2 + (high - low) / 2 * nodes
    y = function(x)
    basis = np.polynomial.chebyshev.chebvander(nodes, count - 1)
    weights, best, chosen = np.ones_like(x), math.inf, np.zeros(count)
    for _ in range(60):
        scale = np.sqrt(weights) / y
        solution, *_ = np.linalg.lstsq(basis * scale[:, None], y * scale, rcond=None)
        error = np.abs(basis @ solution / y - 1)
        if error.max() < best:
            best, chosen = error.max(), solution
        weights = weights * error / np.sum(weights * error)
    series = np.polynomial.chebyshev.Chebyshev(chosen, domain=[low, high])
    return series.convert(kind=np.polynomial.Polynomial).coef


def interpolated(function: Callable, low: float, high: float, count: int) -> list[float]:
    """Coefficients through the Chebyshev nodes, in 60 digits."""
    low, high = mp.mpf(low), mp.mpf(high)
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (k + mp.mpf(1) / 2) / count)
        for k in range(count)
    ]
    matrix = mp.matrix(count, count)
    for i, node in enumerate(nodes):
        for j in range(count):
            matrix[i, j] = node**j
    solution = mp.lu_solve(matrix, mp.matrix([function(node) for node in nodes]))
    return [float(c) for c in solution]


def ratio(s: np.ndarray) -> np.ndarray:
    """z / erf(z / sqrt 2) as a function of s = sqrt(q + 4), q = -2 ln(1 - erf(z / sqrt 2)²)."""
    q = np.maximum(s * s - p.ROOT_OFFSET, 1e-12)
    y = np.sqrt(-np.expm1(-q / 2))
    return -special.ndtri(np.exp(-q / 2) / (2 * (1 + y))) / y


def ratio_precisely(s: mp.mpf) -> mp.mpf:
    """The same in 60 digits, by Newton's method on the logarithm of the tail."""
    q = s * s - 4
    if q < mp.mpf(10) ** -30:
        return mp.sqrt(mp.pi / 2)
    y = mp.sqrt(1 - mp.exp(-q / 2))
    tail = mp.exp(-q / 2) / (2 * (1 + y))
    z = mp.sqrt(q) * mp.mpf("0.9")
    for _ in range(9):
        above = mp.erfc(z / mp.sqrt(2)) / 2
        z += mp.log(above / tail) * above * mp.sqrt(2 * mp.pi) * mp.exp(z * z / 2)
    return z / y


def worst(coefficients: tuple[float, ...], function: Callable, low: float, high: float) -> float:
    """Largest relative error of exact evaluation, at 400 points."""
    points = [low + (high - low) * (k + 0.5) / 400 for k in range(400)]
    return max(
        float(abs(mp.polyval(list(coefficients)[::-1], mp.mpf(x)) / function(mp.mpf(x)) - 1))
        for x in points
    )


def main() -> None:
    mp.mp.dps = 60
    low, high = math.sqrt(0.5) - 1, math.sqrt(2) - 1
    half_pi = math.pi / 2
    shapes: list[tuple[str, Function, Callable, float, float]] = [
        ("LOG", lambda t: -2 * np.log1p(t) / t, lambda t: -2 * mp.log1p(t) / t, low, high),
        (
            "SIN",
            lambda v: np.sin(half_pi * np.sqrt(v)) / np.sqrt(v),
            lambda v: mp.sin(mp.pi / 2 * mp.sqrt(v)) / mp.sqrt(v),
            0.0,
            1.0,
        ),
        (
            "COS",
            lambda v: np.cos(half_pi * np.sqrt(v)) / (1 - v),
            lambda v: mp.cos(mp.pi / 2 * mp.sqrt(v)) / (1 - v),
            0.0,
            1.0,
        ),
    ]
    # q ends where the smallest tail mass, of a cell 2 sigma out, ends: 50, and 82 in float64.
    for bits, ends in (("32", (11, 50)), ("64", (11, 82))):
        fits = list(shapes)
        for name, first, last in (("CENTRE", 0, ends[0]), ("TAIL", *ends)):
            shift = getattr(p, f"{name}_SHIFT_{bits}")
            fits.append(
                (
                    name,
                    lambda u, c=shift: ratio(u + c),
                    lambda u, c=shift: ratio_precisely(u + c),
                    math.sqrt(first + 4) - shift,
                    math.sqrt(last + 4) - shift,
                )
            )
        for name, quick, precise, start, end in fits:
            shipped = getattr(p, f"{name}_{bits}")
            fit = (
                lawson(quick, start, end, len(shipped))
                if bits == "32"
                else interpolated(precise, start, end, len(shipped))
            )
            print(
                f"{name}_{bits}: error {worst(tuple(fit), precise, start, end):.1e} when fitted "
                f"now, {worst(shipped, precise, start, end):.1e} as shipped"
            )
            for coefficient in fit:
                print(f"    {float(coefficient)!r}")


if __name__ == "__main__":
    main()
