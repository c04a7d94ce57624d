"""The largest singular value of a matrix of independent numbers."""

from math import pi

TRACY_WIDOM = (-1.2065336, 1.6077810)
"""Mean and variance of the Tracy–Widom law of real matrices (Bornemann 2010)."""


def largest_singular_value(rows: int, columns: int) -> tuple[float, float]:
    """Mean and std for independent entries of unit variance.

    Its square is μ + σ·W₁ with μ = (√(n − 1) + √p)² and σ = √μ (1/√(n − 1) + 1/√p)^⅓, W₁ of the
    Tracy–Widom law (Johnstone 2001): √n + √p, its limit, is 5 % too much for 8 × 48 numbers.
    """
    p, n = sorted((rows, columns))
    if p == 1:
        # A vector's length: mean square n, variance near 1/2; of one number, its magnitude.
        mean = (n - 0.5) ** 0.5 if n > 1 else (2 / pi) ** 0.5
        return mean, (n - mean**2) ** 0.5
    a, b = (n - 1) ** 0.5, p**0.5
    centre, scale = (a + b) ** 2, (a + b) * (1 / a + 1 / b) ** (1 / 3)
    mean = centre + scale * TRACY_WIDOM[0]
    variance = scale**2 * TRACY_WIDOM[1]
    # E[√λ] from the mean and variance of λ.
    root = (mean**2 - variance / 2) ** 0.25 if mean**2 > variance / 2 else mean**0.5
    return root, max(mean - root**2, 0.0) ** 0.5
