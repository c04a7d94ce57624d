"""Gains and fans as torch takes them, and the schemes that rest on them."""

import math
import warnings
from typing import Literal

import torch
from torch import Generator, Tensor

from fanin.errors import SchemeError
from fanin.init.plain import write_normal, write_uniform
from fanin.init.writing import DivisionError, is_simulated

_NonlinearityType = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
]
_FanMode = Literal["fan_in", "fan_out"]


def calculate_gain(nonlinearity: _NonlinearityType, param: int | float | None = None) -> float:
    """The gain that torch recommends for an activation; torch's table, to the digit.

    1 for linear layers and sigmoid, 5/3 for tanh, √2 for relu, √(2/(1 + slope²)) for leaky_relu,
    3/4 for selu.  The values for sigmoid, tanh and selu are conventions: the gain that keeps
    E[x²] is ``fanin.schemes.gains.gain``.

    Args:
        nonlinearity: the activation's name.
        param: slope of a leaky ReLU; 0.01 if None.

    Raises:
        ValueError: an unknown name, or a slope that is no number.
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        known = (*(f"conv{n}d" for n in (1, 2, 3)), *(f"conv_transpose{n}d" for n in (1, 2, 3)))
        if nonlinearity in ("linear", "sigmoid", *known):
            return 1
    elif nonlinearity == "tanh":
        return 5.0 / 3
    elif nonlinearity == "relu":
        return math.sqrt(2.0)
    elif nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise SchemeError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    elif nonlinearity == "selu":
        return 3.0 / 4
    raise SchemeError(f"Unsupported nonlinearity {nonlinearity}")


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    if tensor.dim() < 2:
        raise SchemeError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    outputs, inputs, *receptive = tensor.shape
    taps = math.prod(receptive)
    return inputs * taps, outputs * taps


def _calculate_correct_fan(tensor: Tensor, mode: _FanMode) -> int:
    name = mode.lower()
    if name not in ("fan_in", "fan_out"):
        valid = ["fan_in", "fan_out"]
        raise SchemeError(f"Mode {name} not supported, please use one of {valid}")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if name == "fan_in" else fan_out


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with U(±gain·√(6/(fan_in + fan_out))) (Glorot & Bengio 2010).

    Args:
        tensor: at least two axes.
        gain: scaling factor.
        generator: torch generator; None for the default one.
    """
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return write_uniform(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with N(0, gain²·2/(fan_in + fan_out)) (Glorot & Bengio 2010).

    Args:
        tensor: at least two axes.
        gain: scaling factor.
        generator: torch generator; None for the default one.
    """
    return write_normal(tensor, 0.0, _xavier_std(tensor, gain), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: _FanMode = "fan_in",
    nonlinearity: _NonlinearityType = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with U(±gain·√(3/fan)) (He et al. 2015).

    Args:
        tensor: at least two axes.
        a: slope of the leaky ReLU that follows.
        mode: ``fan_in`` or ``fan_out``.
        nonlinearity: the activation that follows.
        generator: torch generator; None for the default one.
    """
    if torch.overrides.has_torch_function_variadic(tensor) and not is_simulated(tensor):
        return torch.overrides.handle_torch_function(
            kaiming_uniform_,
            (tensor,),
            tensor=tensor,
            a=a,
            mode=mode,
            nonlinearity=nonlinearity,
            generator=generator,
        )
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return write_uniform(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: _FanMode = "fan_in",
    nonlinearity: _NonlinearityType = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with N(0, gain²/fan) (He et al. 2015).

    Args:
        tensor: at least two axes.
        a: slope of the leaky ReLU that follows.
        mode: ``fan_in`` or ``fan_out``.
        nonlinearity: the activation that follows.
        generator: torch generator; None for the default one.
    """
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return write_normal(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    if fan_in + fan_out == 0:
        raise DivisionError(f"a tensor of shape {tuple(tensor.shape)} has fans of 0")
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def _kaiming_std(
    tensor: Tensor, slope: float, mode: _FanMode, nonlinearity: _NonlinearityType
) -> float:
    fan = _calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, slope) / math.sqrt(fan)
