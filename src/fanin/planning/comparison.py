"""Whether a model's tensors are what a plan says, within sampling error."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from fanin.errors import PlanError
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.expectation import expected_moments
from fanin.schemes.scaled import Scaled
from fanin.schemes.scheme import Moments

FALSE_ALARM = 1e-6
"""Probability that a tensor drawn as planned is reported, shared by all tensors of the model."""


@dataclass(frozen=True)
class Deviation:
    """A tensor whose mean, std or bounds cannot come from its assignment.

    Args:
        parameter: its name.
        quantity: ``mean``, ``std`` or ``bounds``.
        measured: what the tensor has.
        expected: what the plan says.
        tolerance: the largest difference that chance explains.
        assignment: what the plan says about it.
    """

    parameter: str
    quantity: str
    measured: float
    expected: float
    tolerance: float
    assignment: Assignment


def compare_with_tensors(plan: Plan, model: nn.Module) -> list[Deviation]:
    """Tensors of the model that differ from the plan by more than sampling error explains.

    The mean of n elements has standard error σ/√n and their std σ·√((κ − 1)/(4n)), with κ the
    kurtosis (3 for the normal, less for bounded schemes); both are widened to a normal quantile
    at which a model drawn as planned is reported once in a million.  What a dtype rounds is
    added.  Only tensors that the plan initialises are compared, through their parametrisation.

    Raises:
        PlanError: the plan names a parameter that the model lacks or that has another shape.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    drawn = [a for a in plan.values() if a.action is Action.INITIALISE and a.scheme is not None]
    quantile = _quantile(FALSE_ALARM / max(2 * len(drawn), 1))
    found: list[Deviation] = []
    with torch.no_grad():
        for a in drawn:
            tensor = _tensor_of(a, model, parameters)
            if tensor.numel() and not tensor.is_meta:
                found += _deviations(a, tensor, quantile)
    return found


def _tensor_of(
    a: Assignment, model: nn.Module, parameters: dict[str, nn.Parameter]
) -> torch.Tensor:
    if a.through is not None:
        module, _, attribute = a.through.rpartition(".")
        try:
            tensor = getattr(model.get_submodule(module), attribute)
        except AttributeError as error:
            raise PlanError(f"the model has no weight {a.through!r}: {error}.") from error
    elif a.parameter in parameters:
        tensor = parameters[a.parameter]
    else:
        raise PlanError(f"the plan names {a.parameter!r}, which the model does not have.")
    if tuple(tensor.shape) != a.shape:
        raise PlanError(
            f"{a.parameter!r} has shape {tuple(tensor.shape)} in the model and {a.shape} in the "
            "plan. Make a new plan for this model."
        )
    return torch.as_tensor(tensor)


def _deviations(a: Assignment, tensor: torch.Tensor, quantile: float) -> list[Deviation]:
    n = tensor.numel()
    a, data = _unscaled(a, tensor.detach().to(torch.float64 if n <= 1 << 22 else torch.float32))
    assert a.scheme is not None
    moments = expected_moments(a.scheme, a.shape, a.axes, a.zero_rows)
    if math.isnan(moments.std):
        return []
    std, mean = (float(value) for value in torch.std_mean(data, correction=0))
    scale = max(abs(moments.mean), moments.std)
    # float32 sums of many elements round too: a few units in the last place of the scale.
    rounding = scale * max(torch.finfo(tensor.dtype).eps, 1e-6)
    of_mean = quantile * moments.std / math.sqrt(n) + rounding
    of_std = quantile * moments.std * math.sqrt(_spread_of_squares(a, data) / (4 * n)) + rounding
    found = []
    if not abs(mean - moments.mean) <= of_mean:  # `not <=` so that NaN is a deviation
        found.append(Deviation(a.parameter, "mean", mean, moments.mean, of_mean, a))
    if not abs(std - moments.std) <= of_std:
        found.append(Deviation(a.parameter, "std", std, moments.std, of_std, a))
    found += _outside(a, data, moments, rounding)
    return found


def _unscaled(a: Assignment, data: torch.Tensor) -> tuple[Assignment, torch.Tensor]:
    """Units with factors of their own are brought to one scale, where the sampling error is known.

    Else a few large units would make up the whole std, and chance could not be told from a fault.
    """
    if not isinstance(a.scheme, Scaled) or not isinstance(a.scheme.factor, tuple):
        return a, data
    if 0.0 in a.scheme.factor:
        return a, data
    return replace(a, scheme=a.scheme.of), data / a.scheme.factors_of(data, a.axes)


def _spread_of_squares(a: Assignment, data: torch.Tensor) -> float:
    """κ − 1, which the error of a std goes with: 2 for normals, less for bounded schemes.

    More where many elements are zero by construction (sparse weights, padding rows) and where
    blocks have stds of their own.
    """
    nonzero = max(float((data != 0).double().mean()), 1 / data.numel())
    blocks = 3.0 if a.axes.block_sizes else 1.0
    return 2.0 * blocks / nonzero


def _outside(
    a: Assignment, data: torch.Tensor, moments: Moments, rounding: float
) -> list[Deviation]:
    low, high = (float(value) for value in torch.aminmax(data))
    if moments.low is not None and low < moments.low - rounding:
        return [Deviation(a.parameter, "bounds", low, moments.low, rounding, a)]
    if moments.high is not None and high > moments.high + rounding:
        return [Deviation(a.parameter, "bounds", high, moments.high, rounding, a)]
    return []


def _quantile(tail: float) -> float:
    """Z with P(Z > z) = tail, by bisection on erfc."""
    low, high = 0.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        if math.erfc(middle / math.sqrt(2)) / 2 > tail:
            low = middle
        else:
            high = middle
    return high
