"""Name an elementwise function: from its operation, or by its values on a grid."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812

from fanin.graph.graph import Operation
from fanin.graph.regions import Regions
from fanin.graph.role import Activation
from fanin.graph.structure import argument
from fanin.graph.vocabulary import COPIES, LINEAR_ELEMENTWISE, word

LINEAR = Activation("linear")

_GRID = torch.linspace(-6.0, 6.0, 241, dtype=torch.float64) + 1e-3


def named(regions: Regions, tensor: int) -> Activation:
    """The activation between a tensor and its origin.

    A single operation keeps its parameters; a longer expression is compared by value with the
    known activations; what none of them equals is called after its only nonlinear operation, or
    "custom".
    """
    if tensor not in regions.curved:
        return LINEAR
    steps = [op for op in regions.function(tensor) if word(op) not in COPIES]
    if len(steps) == 1 and len(steps[0].inputs) == 1:
        return of_operation(steps[0])
    values = regions.values(tensor, _GRID)
    if values is not None and values.shape == _GRID.shape and values.dtype.is_floating_point:
        match = _match(values)
        if match is not None:
            return match
    curved = [op for op in steps if word(op) not in LINEAR_ELEMENTWISE]
    if len(curved) == 1:
        return _scaled(regions, curved[0])
    return Activation("custom")


def _scaled(regions: Regions, operation: Operation) -> Activation:
    """One nonlinearity between scalings, as in ``sin(30 x)``; the inner factor is told."""
    inner = next((t for t in operation.inputs if t in regions.origin), None)
    base = of_operation(operation)
    if inner is None or inner == regions.root(inner):
        return base
    values = regions.values(inner, torch.tensor([0.0, 1.0], dtype=torch.float64))
    if values is None or values.shape != (2,):
        return base
    slope = float(values[1] - values[0])
    return Activation(base.name, base.parameters, input_scale=slope)


def of_operation(operation: Operation) -> Activation:
    """Name and parameters of an operation that is an activation by itself."""
    name = word(operation)

    def number(position: int, key: str, default: float) -> float:
        value = argument(operation, position, key, default)
        return float(value) if isinstance(value, int | float) else default

    if name == "gelu":
        return Activation("gelu_tanh" if operation.kwargs.get("approximate") == "tanh" else "gelu")
    if name == "leaky_relu":
        return Activation("leaky_relu", {"negative_slope": number(1, "negative_slope", 0.01)})
    if name in ("elu", "celu"):
        alpha, scale = number(1, "alpha", 1.0), number(2, "scale", 1.0)
        if name == "elu" and abs(scale - 1.0507009873554805) < 1e-6:
            return Activation("selu")
        return Activation(name, {"alpha": alpha} if alpha != 1.0 else {})
    if name == "hardtanh":
        low, high = number(1, "min_val", -1.0), number(2, "max_val", 1.0)
        if (low, high) == (0.0, 6.0):
            return Activation("relu6")
        standard = (low, high) == (-1.0, 1.0)
        return Activation("hardtanh", {} if standard else {"min_val": low, "max_val": high})
    if name == "softplus":
        beta = number(1, "beta", 1.0)
        return Activation("softplus", {} if beta == 1.0 else {"beta": beta})
    if name in ("threshold", "clamp_min", "clamp", "relu"):
        bounds = [argument(operation, place, "") for place in (1, 2)]
        low = operation.kwargs.get("min", bounds[0])
        if name == "relu" or (low == 0 and (name == "clamp_min" or bounds[1] in (0, None))):
            return Activation("relu")
        return Activation("custom")
    if name in ("rrelu_with_noise", "rrelu_with_noise_functional"):
        return Activation("rrelu")
    return Activation(_OTHER_NAMES.get(name, name))


_OTHER_NAMES = {
    "log_sigmoid_forward": "logsigmoid",
    "log_sigmoid": "logsigmoid",
    "special_expit": "sigmoid",
    "special_erf": "erf",
}


_KNOWN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "relu_squared": lambda x: F.relu(x).square(),
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "tanhshrink": F.tanhshrink,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "sin": torch.sin,
    "cos": torch.cos,
    "abs": torch.abs,
    "square": torch.square,
}
_SLOPES = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3)


@cache
def _table() -> list[tuple[Activation, torch.Tensor]]:
    rows = [(Activation(name), function(_GRID)) for name, function in _KNOWN.items()]
    for slope in _SLOPES:
        leaky = Activation("leaky_relu", {"negative_slope": slope})
        rows.append((leaky, F.leaky_relu(_GRID, slope)))
    return rows


def _match(values: torch.Tensor) -> Activation | None:
    # 1e-4: hand-written forms differ from each other by the digits of their constants.
    for activation, known in _table():
        if torch.allclose(values, known, rtol=1e-4, atol=1e-4, equal_nan=True):
            return activation
    return None
