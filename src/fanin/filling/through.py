"""Draw an effective weight and write it through the parametrisation that computes it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fanin.errors import PlanError
from fanin.filling.transaction import Transaction
from fanin.planning.parametrised import Parametrisation, ParametrisedWeight
from fanin.randomness import Address, NormalDistribution, draw

POWER_ITERATIONS = 15
"""As many as torch runs when it registers spectral_norm."""


def write_through(
    model: nn.Module,
    weight: ParametrisedWeight,
    values: torch.Tensor,
    transaction: Transaction,
    seed: int,
) -> set[str]:
    """Set the parameters behind ``weight`` so that the module computes ``values``.

    * weight_norm: magnitude and direction of the values; for an all-zero weight the magnitude is
      0 and the direction stays, since 0/0 would be NaN.
    * spectral_norm: the values themselves; the module divides them by their largest singular
      value, whose vectors are found anew.
    * orthogonal and others: the parametrisation's own ``right_inverse``.

    Returns:
        The names of the buffers that were recomputed.

    Raises:
        PlanError: the parametrisation gives back other shapes than it has.
    """
    buffers: set[str] = set()
    module = model.get_submodule(weight.module)
    if weight.kind in {Parametrisation.WEIGHT_NORM, Parametrisation.WEIGHT_NORM_HOOK}:
        _write_weight_norm(module, weight, values, transaction, seed)
    elif weight.kind in {Parametrisation.SPECTRAL_NORM, Parametrisation.SPECTRAL_NORM_HOOK}:
        transaction.write(weight.carrier, values)
        buffers = _restart_power_iteration(module, weight, values, transaction, seed)
    elif weight.kind is Parametrisation.OPAQUE:
        transaction.write(weight.carrier, values)
    else:
        _write_inverse(module, weight, values, transaction, seed)
    if weight.kind in {Parametrisation.WEIGHT_NORM_HOOK, Parametrisation.SPECTRAL_NORM_HOOK}:
        _refresh_hooked(module, weight, values, transaction)
    return buffers


def _write_weight_norm(
    module: nn.Module,
    weight: ParametrisedWeight,
    values: torch.Tensor,
    transaction: Transaction,
    seed: int,
) -> None:
    if weight.kind is Parametrisation.WEIGHT_NORM:
        dim = _chain(module, weight.attribute)[0].dim
    else:
        dim = _hook(module, weight.attribute).dim
    magnitude = torch.norm_except_dim(values, 2, -1 if dim is None else dim)
    (derived,) = weight.derived
    if bool(values.any()):
        transaction.write(weight.carrier, values)
    elif transaction.tensor(weight.carrier).is_meta:
        direction = draw(NormalDistribution(0.0, 1.0), Address(seed, weight.carrier), values.shape)
        transaction.write(weight.carrier, direction)
    transaction.write(derived, magnitude.reshape(transaction.tensor(derived).shape))


def _restart_power_iteration(
    module: nn.Module,
    weight: ParametrisedWeight,
    values: torch.Tensor,
    transaction: Transaction,
    seed: int,
) -> set[str]:
    """Find the singular vectors of the new weight, from a start that the seed decides."""
    if values.dim() < 2:
        return set()
    prefix = f"{weight.module}." if weight.module else ""
    if weight.kind is Parametrisation.SPECTRAL_NORM:
        step: Any = _chain(module, weight.attribute)[0]
        root = f"{prefix}parametrizations.{weight.attribute}.0"
        left, right, dim, eps = f"{root}._u", f"{root}._v", step.dim, step.eps
    else:
        step = _hook(module, weight.attribute)
        root = f"{prefix}{weight.attribute}"
        left, right, dim, eps = f"{root}_u", f"{root}_v", step.dim, step.eps
    matrix = values.movedim(dim, 0).flatten(1)
    start = draw(NormalDistribution(0.0, 1.0), Address(seed, right), (matrix.shape[1],))
    v = nn.functional.normalize(start.to(matrix), dim=0, eps=eps)
    u = matrix.new_zeros(matrix.shape[0])
    for _ in range(POWER_ITERATIONS):
        u = nn.functional.normalize(matrix @ v, dim=0, eps=eps)
        v = nn.functional.normalize(matrix.mT @ u, dim=0, eps=eps)
    transaction.write(left, u)
    transaction.write(right, v)
    return {left, right}


def _write_inverse(
    module: nn.Module,
    weight: ParametrisedWeight,
    values: torch.Tensor,
    transaction: Transaction,
    seed: int,
) -> None:
    steps = _chain(module, weight.attribute)
    for step in steps:
        for child in step.modules():
            # right_inverse may set buffers of its own (the base of an orthogonal one).
            transaction.remember(child._buffers)
            transaction.remember(child.__dict__)
    result: Any = values
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Address(seed, weight.effective).key() & (2**63 - 1))
        for step in reversed(steps):
            result = step.right_inverse(result)
    parts = [result] if isinstance(result, torch.Tensor) else list(result)
    names = sorted([weight.carrier, *weight.derived])
    if len(parts) != len(names):
        raise PlanError(
            f"{weight.effective!r}: its right_inverse gives {len(parts)} tensors for "
            f"{len(names)} parameters. Keep it, with keep={weight.effective!r}."
        )
    for name, part in zip(names, parts, strict=True):
        if part.shape != transaction.tensor(name).shape:
            raise PlanError(
                f"{weight.effective!r}: its right_inverse gives shape {tuple(part.shape)} for "
                f"{name!r}. Keep it, with keep={weight.effective!r}."
            )
        transaction.write(name, part)


def _refresh_hooked(
    module: nn.Module, weight: ParametrisedWeight, values: torch.Tensor, transaction: Transaction
) -> None:
    """The older forms cache the effective weight on the module until the next forward pass."""
    cached = vars(module).get(weight.attribute)
    if not isinstance(cached, torch.Tensor) or cached.is_meta:
        return
    transaction.remember(vars(module))
    hook = _hook(module, weight.attribute)
    if weight.kind is Parametrisation.WEIGHT_NORM_HOOK:
        vars(module)[weight.attribute] = hook.compute_weight(module)
    else:
        vars(module)[weight.attribute] = values.clone()


def _chain(module: nn.Module, attribute: str) -> list[Any]:
    table: Mapping[str, nn.Module] = module.parametrizations  # type: ignore[assignment]
    return list(table[attribute].children())


def _hook(module: nn.Module, attribute: str) -> Any:
    return next(
        hook
        for hook in module._forward_pre_hooks.values()
        if getattr(hook, "name", None) == attribute
    )
