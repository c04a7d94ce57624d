"""Moments, likeness and finiteness of one tensor, safe where float32 squares overflow."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

# Between these the squares of float32 values neither overflow nor vanish when summed.
_SAFE = (1e-15, 1e15)


@dataclass(frozen=True)
class TensorMoments:
    """Moments over all elements.

    ``mean``, ``rms``, ``std`` and ``max_abs`` are None when a NaN or an infinity is among them.
    """

    finite: bool
    mean: float | None = None
    rms: float | None = None
    std: float | None = None
    max_abs: float | None = None
    zero_share: float | None = None


def moments(tensor: torch.Tensor) -> TensorMoments:
    """Moments of a real floating tensor with at least one element, any dtype and layout.

    Half precision is widened first: bf16 sums stall after 256 terms. Values whose squares leave
    float32's range are scaled, so that an exploded activation of 1e30 still has its RMS.

    Examples:
        >>> m = moments(torch.tensor([3e30, -4e30]))
        >>> round(m.rms / 1e30, 4), m.finite
        (3.5355, True)
    """
    values = widened(tensor)
    count = values.numel()
    low, high = (float(v) for v in torch.aminmax(values))
    if not (math.isfinite(low) and math.isfinite(high)):
        return TensorMoments(finite=False)
    largest = max(abs(low), abs(high))
    if largest == 0.0:
        return TensorMoments(True, 0.0, 0.0, 0.0, 0.0, 1.0)
    scale = 1.0 if _SAFE[0] < largest < _SAFE[1] else largest
    scaled = values if scale == 1.0 else values / scale
    rms = float(torch.linalg.vector_norm(scaled)) / math.sqrt(count)
    mean = float(scaled.mean())
    std = math.sqrt(max(0.0, rms * rms - mean * mean))
    if low == high:
        std = 0.0  # the difference of squares would leave a rounding error
    return TensorMoments(
        True,
        mean * scale,
        rms * scale,
        std * scale,
        largest,
        1.0 - int(torch.count_nonzero(values)) / count,
    )


def dense(gradients: Iterable[torch.Tensor | None]) -> tuple[torch.Tensor | None, ...]:
    """Gradients with all their zeros: tables with ``sparse=True`` have the rows alone they read."""
    return tuple(g.to_dense() if g is not None and g.is_sparse else g for g in gradients)


def root_mean_square(tensor: torch.Tensor) -> tuple[float | None, bool]:
    """RMS of a tensor and whether all of it is finite; the RMS is None when it is not."""
    values = widened(tensor)
    if values.numel() == 0:
        return None, True
    norm = float(torch.linalg.vector_norm(values))
    if math.isfinite(norm) and norm > 1e-15:
        return norm / math.sqrt(values.numel()), True
    found = moments(values)
    return found.rms, found.finite


def mean_cosine(rows: torch.Tensor) -> float | None:
    """Mean cosine over all pairs of different rows of a matrix.

    Σ_{i≠j} cos(i, j) = |Σ_i u_i|² − n for unit rows u, so that no pair is formed. Rows of zeros
    have no direction and are left out; None when fewer than two rows are left.

    Examples:
        >>> mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))  # cosines 0, 1, 0
        0.3333...
    """
    values = widened(rows)
    lengths = torch.linalg.vector_norm(values, dim=1)
    if not bool(torch.isfinite(lengths).all()):
        largest = float(values.abs().max())
        if not math.isfinite(largest):
            return None
        values = values / largest
        lengths = torch.linalg.vector_norm(values, dim=1)
    alive = lengths > 0
    n = int(alive.sum())
    if n < 2:
        return None
    total = ((1.0 / lengths[alive]).double() @ values[alive].double()).square().sum()
    return float((total - n) / (n * (n - 1)))


def mean_cosine_of_positions(tensor: torch.Tensor) -> float | None:
    """``mean_cosine`` of the positions within a sample, averaged over samples.

    Args:
        tensor: (samples, positions, features).
    """
    values = widened(tensor)
    lengths = torch.linalg.vector_norm(values, dim=2, keepdim=True)
    if tensor.shape[1] < 2 or not bool((lengths > 0).all() and torch.isfinite(lengths).all()):
        return None
    positions = tensor.shape[1]
    total = (values / lengths).sum(dim=1).square().sum(dim=1)
    return float(((total - positions) / (positions * (positions - 1))).mean())


def vectors_of(tensor: torch.Tensor) -> torch.Tensor:
    """The vectors that a norm would treat alike: rows along the last axis, or whole images."""
    values = widened(tensor)
    if values.dim() >= 4:
        return values.flatten(1)
    return values.reshape(-1, values.shape[-1]) if values.dim() else values.reshape(1, 1)


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or its float32 values when it is of a narrower dtype."""
    detached = tensor.detach()
    return detached.float() if detached.element_size() < 4 else detached
