"""What share of an activation's outputs is dead or saturated."""

from collections.abc import Callable, Mapping

import torch

SATURATION_SLOPE = 0.05  # a unit whose |φ'| is smaller passes next to no gradient

BOUNDED = frozenset({"tanh", "sigmoid", "hardtanh", "hardsigmoid", "erf", "softsign", "relu6"})
"""Activations whose output does not grow with their input."""

_RELU_LIKE = frozenset({"relu", "relu6"})


def saturated_share(name: str, output: torch.Tensor) -> float | None:
    """Share of elements whose slope |φ'| is below 0.05, read off the activation's output.

    tanh' = 1 − y², sigmoid' = y (1 − y); the hard forms are flat at their bounds, erf by its
    inverse. None for activations that do not saturate on both sides (the ReLU family has dead
    units instead).

    Examples:
        >>> saturated_share("tanh", torch.tensor([0.0, 0.9, 0.99, -0.99]))
        0.5
    """
    slope = _SLOPES.get(name)
    if slope is None or output.numel() == 0:
        return None
    return float((slope(output.detach().float()) < SATURATION_SLOPE).float().mean())


_SLOPES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
    "hardtanh": lambda y: (y.abs() < 1).float(),
    "hardsigmoid": lambda y: ((y > 0) & (y < 1)).float() / 6,
    "erf": lambda y: 1.1283791670955126 * torch.exp(-(torch.erfinv(y.clamp(-1, 1)) ** 2)),
}


def dead_share(name: str, output: torch.Tensor, channel_axis: int) -> tuple[float, int] | None:
    """Share of units that are 0 on all of the batch, and how often each unit was seen.

    Args:
        name: the activation.
        output: what it returned.
        channel_axis: the axis that counts units; all others count observations.
    """
    if name not in _RELU_LIKE or output.dim() < 2 or output.numel() == 0:
        return None
    units = output.detach().movedim(channel_axis, 0).flatten(1)
    dead = ~(units != 0).any(dim=1)
    return float(dead.float().mean()), int(units.shape[1])
