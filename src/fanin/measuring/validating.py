"""Refuse inputs and targets that no measurement could be read from."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from fanin.errors import DataError


def validate_inputs(inputs: Any) -> None:
    """Raise DataError for empty tensors and for NaN or infinity among the inputs.

    Minus infinity is let through in arguments whose name says that they are masks or biases of
    attention: there it is what it means.
    """
    for name, tensor in _named(inputs, "inputs"):
        _validate(name, tensor, infinity_allowed="mask" in name or "bias" in name)


def validate_target(target: Any) -> None:
    """Raise DataError for empty tensors and for NaN or infinity in the target."""
    for name, tensor in _named(target, "target"):
        _validate(name, tensor, infinity_allowed=False)


def _validate(name: str, tensor: torch.Tensor, *, infinity_allowed: bool) -> None:
    if tensor.numel() == 0:
        raise DataError(
            f"{name}: a tensor of shape {tuple(tensor.shape)} is empty. Give at least one sample."
        )
    if not tensor.is_floating_point() or tensor.is_meta:
        return
    nans = int(torch.isnan(tensor).sum())
    if nans:
        raise DataError(
            f"{name}: {nans} of {tensor.numel()} values are NaN. Clean the data first; a NaN in "
            "the inputs would be blamed on the model."
        )
    infinities = torch.isinf(tensor)
    if infinity_allowed:
        infinities &= tensor > 0
    count = int(infinities.sum())
    if count:
        raise DataError(
            f"{name}: {count} of {tensor.numel()} values are infinite. Clean the data first; an "
            "infinity in the inputs would be blamed on the model."
        )


def batch_size(inputs: Any) -> int:
    """Samples in the batch: the first axis of the first tensor that has one; 1 for scalars."""
    for _, tensor in _named(inputs, "inputs"):
        if tensor.dim() > 0:
            return int(tensor.shape[0])
    return 1


def _named(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _named(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _named(item, f"{name}[{index}]")
