"""The gain of an activation: 1/√E[φ(z)²] for z ~ N(0, 1), by quadrature.

Weights of variance gain²/fan_in then keep E[x²] from layer to layer.  The integral is computed
for any function of one number, by name or as a callable; nothing is looked up that can be
computed.  ``torch.nn.init.calculate_gain`` gives other numbers for tanh (5/3), SELU (3/4) and
sigmoid (1): empirical ones; ``fanin.init.calculate_gain`` equals torch's.
"""

import copy
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from fanin.errors import SchemeError, unknown_name

_ACTIVATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "linear": lambda x: x,
    "identity": lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x, negative_slope=0.25: F.leaky_relu(x, negative_slope),
    "rrelu": F.rrelu,
    "relu6": F.relu6,
    "relu_squared": lambda x: F.relu(x).square(),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
    "threshold": F.threshold,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "abs": torch.abs,
}


def require_activation(nonlinearity: str | Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Raise UnknownNameError unless this is a callable or the name of a known activation."""
    if not callable(nonlinearity) and nonlinearity not in _ACTIVATIONS:
        raise unknown_name(
            "activation", str(nonlinearity), _ACTIVATIONS, "fanin.schemes.gains.activations()"
        )


def activations() -> list[str]:
    """The names of all activations that have a gain."""
    return sorted(_ACTIVATIONS)


def function_of_activation(
    name: str, parameters: Mapping[str, float] | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The activation of that name as a function of one tensor.

    Raises:
        UnknownNameError: no activation of that name.
    """
    require_activation(name)
    function, given = _ACTIVATIONS[name], dict(parameters or {})
    return lambda x: function(x, **given)


def gain(
    nonlinearity: str | Callable[[torch.Tensor], torch.Tensor],
    parameters: Mapping[str, float] | None = None,
) -> float:
    """1/√E[φ(z)²] for z ~ N(0, 1).

    Args:
        nonlinearity: torch's name of the activation, or any function or module that maps every
            number of a tensor on its own.
        parameters: keyword arguments for it, such as ``{"negative_slope": 0.2}``.

    Raises:
        UnknownNameError: no activation of that name.
        SchemeError: the function is 0 or not finite where it counts, or changes the shape.

    Examples:
        >>> round(gain("relu"), 6), round(gain("leaky_relu", {"negative_slope": 0.2}), 6)
        (1.414214, 1.38675)
        >>> round(gain("tanh"), 4), round(gain("gelu"), 4), round(gain("selu"), 4)
        (1.5925, 1.5335, 1.0)
    """
    return 1.0 / math.sqrt(second_moment(nonlinearity, parameters))


def second_moment(
    nonlinearity: str | Callable[[torch.Tensor], torch.Tensor],
    parameters: Mapping[str, float] | None = None,
) -> float:
    """E[φ(z)²] for z ~ N(0, 1); see ``gain``."""
    require_activation(nonlinearity)
    if isinstance(nonlinearity, str):
        return _second_moment_by_name(nonlinearity, tuple(sorted((parameters or {}).items())))
    return _integrate(nonlinearity, repr(nonlinearity), dict(parameters or {}))


@lru_cache(maxsize=256)
def _second_moment_by_name(name: str, parameters: tuple[tuple[str, float], ...]) -> float:
    given = dict(parameters)
    # The two that He et al. derive in closed form: exact, and free of the quadrature's start-up.
    if name == "relu":
        return 0.5
    if name == "leaky_relu":
        return (1 + given.get("negative_slope", 0.01) ** 2) / 2
    return _integrate(_ACTIVATIONS[name], name, given)


def _integrate(function: Callable[..., Any], name: str, parameters: dict[str, float]) -> float:
    """∫ φ(z)² N(z; 0, 1) dz over ±12, intervals halved until both halves agree with the whole.

    Kinks and jumps need no marking: only the interval that holds one is halved further.
    """
    if isinstance(function, torch.nn.Module):
        # In double and in eval mode: rrelu and dropout draw numbers in training.
        function = copy.deepcopy(function).to(device="cpu", dtype=torch.float64).eval()

    def weighted(z: torch.Tensor) -> torch.Tensor:
        try:
            value = function(z, **parameters)
        except (TypeError, RuntimeError) as error:
            raise SchemeError(
                f"activation {name} cannot be evaluated: {error}. Give a function of one tensor "
                "and parameters that it accepts."
            ) from error
        if not isinstance(value, torch.Tensor) or value.shape != z.shape:
            raise SchemeError(
                f"activation {name} does not map each number on its own. Give an elementwise one."
            )
        return value.double().square() * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)

    nodes, weights = (torch.tensor(a, dtype=torch.float64) for a in _LEGENDRE_4)
    with torch.no_grad():

        def rule(left: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
            z = left[:, None] + width[:, None] * (nodes + 1) / 2
            value: torch.Tensor = (weighted(z.ravel()).view(z.shape) * weights).sum(1) * width / 2
            return value

        left = torch.arange(-12.0, 12.0, 0.125, dtype=torch.float64)
        width = torch.full_like(left, 0.125)
        coarse, total = rule(left, width), 0.0
        for _ in range(40):
            half = width / 2
            one, two = rule(left, half), rule(left + half, half)
            settled = (one + two - coarse).abs() <= 1e-13
            total += float((one + two)[settled].sum())
            open_ = ~settled
            left = torch.cat([left[open_], (left + half)[open_]])
            width = torch.cat([half[open_], half[open_]])
            coarse = torch.cat([one[open_], two[open_]])
            # A NaN never settles, and a function full of jumps would double without end.
            if len(left) == 0 or len(left) > 200_000:
                break
        total += float(coarse.sum())
        ends = float(weighted(torch.tensor([-12.0, 12.0], dtype=torch.float64)).max())
    # An integrand that is still large at the ends has no integral.
    if not math.isfinite(total) or total <= 0 or ends > 1e-9 * total:
        raise SchemeError(
            f"activation {name} has E[φ(z)²] = {total:g} for z ~ N(0, 1), which gives no gain. "
            "Give one that is finite, not 0, and grows slower than exp(z²/4)."
        )
    return total


_LEGENDRE_4 = (
    [-0.8611363115940526, -0.3399810435848563, 0.3399810435848563, 0.8611363115940526],
    [0.3478548451374538, 0.6521451548625461, 0.6521451548625461, 0.3478548451374538],
)
"""Nodes and weights of the four-point Gauss–Legendre rule; a test computes them with NumPy."""
