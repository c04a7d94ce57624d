"""Which scheme a layer's measured std belongs to, and what that does over depth."""

import math
from collections.abc import Callable, Sequence

from fanin.checking.drift import activation_drifts, gradient_drift
from fanin.checking.streams import Stream
from fanin.signals import LayerSignal

RELU_LIKE = frozenset({"relu", "relu6", "leaky_relu", "prelu", "rrelu", "gelu", "silu", "mish"})


def xavier_std(layer: LayerSignal) -> float:
    """Glorot & Bengio's std √(2 / (fan_in + fan_out)), normal or uniform."""
    return math.sqrt(2 / (layer.fan_in + layer.fan_out))


def he_std(layer: LayerSignal) -> float:
    """He et al.'s std √(2 / fan_in)."""
    return math.sqrt(2 / layer.fan_in)


def torch_default_std(layer: LayerSignal) -> float:
    """Std of U(±1/√fan_in), PyTorch's default for linear layers and convolutions."""
    return math.sqrt(1 / (3 * layer.fan_in))


def has_std(layer: LayerSignal, std: float) -> bool:
    """Whether the layer's weights have this std within sampling error.

    The measured std of n normal numbers varies by std/√(2n); 4 of that, and half a percent for
    biased estimates.
    """
    count = math.prod(layer.shape)
    tolerance = std * (4 / math.sqrt(2 * max(count, 1)) + 0.005)
    return abs(layer.weight_std - std) <= tolerance


def exposed_layers(
    stream: Stream, activations: frozenset[str], std: Callable[[LayerSignal], float]
) -> list[LayerSignal]:
    """Layers of this std in front of these activations whose scale no norm forgets."""
    inside = [p.layer for p in stream.tail if p.layer is not None]
    return [
        layer for layer in inside if layer.activation in activations and has_std(layer, std(layer))
    ]


def relu_drift(layers: Sequence[LayerSignal]) -> float:
    """Factor on the RMS over these layers before ReLUs: the product of √(fan_in·Var(w)/2)."""
    return math.prod(math.sqrt(layer.fan_in / 2) * layer.weight_std for layer in layers)


def shrinks(stream: Stream, factor: float) -> bool:
    """Whether the signal or its gradient was measured to fall by this factor along the stream.

    Sums over neighbours (graph nets, wide skips) may make up for what the weights take away.
    """
    backward = gradient_drift(stream)
    ratios = [drift.ratio for drift in activation_drifts(stream)][-1:]
    ratios += [backward.ratio] if backward is not None else []
    return any(ratio < 1 / factor for ratio in ratios)
