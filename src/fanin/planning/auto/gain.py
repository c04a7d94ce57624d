"""The gain that keeps a signal's second moment through an activation, and how it is told."""

from fanin.errors import FaninError
from fanin.graph.role import Activation
from fanin.schemes import gains

RELU_LIKE = frozenset(
    {
        "relu",
        "leaky_relu",
        "prelu",
        "rrelu",
        "relu6",
        "relu_squared",
        "elu",
        "celu",
        "gelu",
        "gelu_tanh",
        "quick_gelu",
        "silu",
        "swish",
        "mish",
        "hardswish",
        "softplus",
    }
)
"""Activations that pass positive inputs and damp negative ones."""

SATURATING = frozenset({"tanh", "sigmoid", "hardtanh", "hardsigmoid", "softsign", "erf", "arctan"})
"""Activations with a linear middle and flat ends."""

LINEAR = frozenset({"", "linear", "identity", "softmax", "log_softmax", "glu"})
"""No activation, or one that asks nothing of the weight before it."""


def name_of(activation: Activation | None) -> str:
    """The activation's name; empty for none."""
    return "" if activation is None else activation.name


def squared_gain(activation: Activation | None) -> tuple[float, str]:
    """1/E[φ(z)²] for z ~ N(0, 1), and the fact behind it; 1 where it cannot be computed."""
    name = name_of(activation)
    if activation is None or name in LINEAR:
        return 1.0, "no activation: gain 1"
    try:
        gain = gains.gain(name, dict(activation.parameters))
    except FaninError as error:
        return 1.0, f"gain of {name} not known, taken as 1: {error}"
    return gain**2, f"gain 1/√E[{name}(z)²] = {gain:.4g} by quadrature over z ~ N(0, 1)"
