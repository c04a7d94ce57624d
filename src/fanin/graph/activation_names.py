"""Operations that are activations, under the names that PyTorch's functional interface has."""

from collections.abc import Mapping

from fanin.graph.graph import Operation

ACTIVATIONS: Mapping[str, str] = {
    "relu": "relu",
    "relu_": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "leaky_relu_": "leaky_relu",
    "_prelu_kernel": "prelu",
    "rrelu_with_noise": "rrelu",
    "gelu": "gelu",
    "silu": "silu",
    "silu_": "silu",
    "mish": "mish",
    "mish_": "mish",
    "hardswish": "hardswish",
    "hardswish_": "hardswish",
    "elu": "elu",
    "elu_": "elu",
    "celu": "celu",
    "celu_": "celu",
    "softplus": "softplus",
    "log_sigmoid_forward": "logsigmoid",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "hardsigmoid": "hardsigmoid",
    "hardsigmoid_": "hardsigmoid",
    "tanh": "tanh",
    "tanh_": "tanh",
    "hardtanh": "hardtanh",
    "hardtanh_": "hardtanh",
    "erf": "erf",
    "threshold": "relu",
    "threshold_": "relu",
    "sin": "sin",
    "sin_": "sin",
}
"""ATen operation -> name of the activation as PyTorch's functional interface has it."""


def activation_name(operation: Operation) -> str | None:
    """Name of the activation that this operation applies; None for other operations."""
    name = ACTIVATIONS.get(operation.name)
    if name is not None:
        if name == "hardtanh" and operation.args[1:2] == (0,):
            return "relu6"  # F.relu6 arrives as hardtanh(x, 0, 6)
        return name
    if operation.name in ("clamp_min", "clamp_min_", "clamp", "clamp_"):
        low = operation.args[1] if len(operation.args) > 1 else operation.kwargs.get("min")
        high = operation.args[2] if len(operation.args) > 2 else operation.kwargs.get("max")
        if low == 0 and high is None:
            return "relu"
    return None
