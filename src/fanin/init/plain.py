"""Uniform, normal, truncated normal and constants: every element on its own."""

import math
import warnings
from functools import lru_cache

import torch
from torch import Generator, Tensor

from fanin.init.quick import filled_quickly, normal_constants, uniform_constants
from fanin.init.writing import (
    DivisionError,
    TensorError,
    is_simulated,
    number,
    require_bounds,
    require_std,
    write,
)
from fanin.randomness import (
    ConstantDistribution,
    Distribution,
    NormalDistribution,
    TruncatedNormalDistribution,
    UniformDistribution,
)

# A model asks for the same few distributions again and again.
_uniform = lru_cache(maxsize=256)(UniformDistribution)
_normal = lru_cache(maxsize=256)(NormalDistribution)


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with U(a, b).

    Args:
        tensor: any shape.
        a: lower bound.
        b: upper bound.
        generator: torch generator; None for the default one.
    """
    if torch.overrides.has_torch_function_variadic(tensor) and not is_simulated(tensor):
        return torch.overrides.handle_torch_function(
            uniform_, (tensor,), tensor=tensor, a=a, b=b, generator=generator
        )
    return write_uniform(tensor, a, b, generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with N(mean, std²).

    Args:
        tensor: any shape.
        mean: the mean.
        std: the standard deviation.
        generator: torch generator; None for the default one.
    """
    if torch.overrides.has_torch_function_variadic(tensor) and not is_simulated(tensor):
        return torch.overrides.handle_torch_function(
            normal_, (tensor,), tensor=tensor, mean=mean, std=std, generator=generator
        )
    return write_normal(tensor, mean, std, generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with N(mean, std²) conditioned on [a, b], exactly, wherever the bounds lie.

    The bounds are absolute: std 0.02 with the default ±2 is cut at 100σ, that is never.

    Args:
        tensor: any shape.
        mean: mean before the cut.
        std: standard deviation before the cut.
        a: lower bound.
        b: upper bound.
        generator: torch generator; None for the default one.
    """
    if is_simulated(tensor):
        return tensor
    mean, std, a, b = number(mean), number(std), number(a), number(b)
    if mean < a - 2 * std or mean > b + 2 * std:
        # torch's warning, so that filters for it hold; here the values are right all the same.
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=2,
        )
    require_std(std)
    if std == 0:
        raise DivisionError("trunc_normal_ expects std > 0.0, but found std 0. Use constant_.")
    if not a <= b:
        raise TensorError(
            f"uniform_ expects to return a [from, to) range, but found from={a:g} > to={b:g}"
        )
    distribution: Distribution = (
        TruncatedNormalDistribution(mean, std, a, b) if a < b else (ConstantDistribution(a))
    )
    if math.isinf(a) and math.isinf(b):
        distribution = NormalDistribution(mean, std)
    return write(tensor, distribution, generator)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value.

    Args:
        tensor: any shape.
        val: the value.
    """
    if torch.overrides.has_torch_function_variadic(tensor) and not is_simulated(tensor):
        return torch.overrides.handle_torch_function(constant_, (tensor,), tensor=tensor, val=val)
    return write_value(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1.

    Args:
        tensor: any shape.
    """
    return write_value(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0.

    Args:
        tensor: any shape.
    """
    if is_simulated(tensor):
        return tensor
    with torch.no_grad():
        return tensor.zero_()


def write_uniform(tensor: Tensor, low: float, high: float, generator: Generator | None) -> Tensor:
    """Draw U(low, high), with torch's errors."""
    low = low if type(low) is float else number(low)
    high = high if type(high) is float else number(high)
    if filled_quickly(tensor, uniform_constants(low, high, tensor.dtype), generator):
        return tensor
    if is_simulated(tensor):
        return tensor
    require_bounds(low, high, tensor.dtype)
    if tensor.is_complex():
        # As torch does: real and imaginary parts alike.
        write(torch.view_as_real(tensor.detach()), _uniform(low, high), generator)
        return tensor
    return write(tensor, _uniform(low, high), generator)


def write_normal(tensor: Tensor, mean: float, std: float, generator: Generator | None) -> Tensor:
    """Draw N(mean, std²), with torch's errors."""
    mean = mean if type(mean) is float else number(mean)
    std = std if type(std) is float else number(std)
    if filled_quickly(tensor, normal_constants(mean, std, tensor.dtype), generator):
        return tensor
    if is_simulated(tensor):
        return tensor
    require_std(std)
    if tensor.is_complex():
        # As torch does: std² is shared between real and imaginary parts, the mean is real.
        parts = torch.view_as_real(tensor.detach())
        write(parts, NormalDistribution(0.0, std / math.sqrt(2.0)), generator)
        with torch.no_grad():
            return tensor.add_(mean)
    return write(tensor, _normal(mean, std), generator)


def write_value(tensor: Tensor, value: float) -> Tensor:
    """Fill with one value; any dtype."""
    if is_simulated(tensor):
        return tensor
    with torch.no_grad():
        return tensor.fill_(value)
