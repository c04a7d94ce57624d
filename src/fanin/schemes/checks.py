"""What every scheme checks: its own fields on construction, and a tensor before it writes."""

from collections.abc import Sequence
from math import isfinite

import torch

from fanin.axes import Axes
from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region

DRAWABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The dtypes that schemes draw."""


def require(condition: bool, message: str) -> None:
    """Raise SchemeError with this message unless the condition holds."""
    if not condition:
        raise SchemeError(message)


def require_number(scheme: object, name: str, *, least: float | None = None) -> None:
    """Raise SchemeError unless the field is a finite number, not below ``least``.

    The check reads the field by name so that the message can show the scheme as it was given.
    """
    value = getattr(scheme, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    floor = "" if least is None else f" of at least {least:g}"
    require(
        number and (least is None or value >= least),
        f"{scheme!r}: {name} must be a finite number{floor}.",
    )


def require_choice(scheme: object, name: str, choices: Sequence[str]) -> None:
    """Raise SchemeError unless the field is one of these words."""
    value = getattr(scheme, name)
    require(value in choices, f"{scheme!r}: {name} must be one of {', '.join(choices)}.")


def check_target(
    scheme: object, target: torch.Tensor, axes: Axes, address: Address, region: Region | None
) -> Region:
    """Raise SchemeError unless ``target`` can be written; returns the region that it holds."""
    where = f"{scheme!r} on {address.name!r}" if address.name else repr(scheme)
    require(
        not torch.nn.parameter.is_lazy(target),
        f"{where}: a lazy parameter has no shape yet. Run the module once on an input.",
    )
    region = region or Region.whole(target.shape)
    require(
        tuple(target.shape) == region.size,
        f"{where}: a tensor of shape {tuple(target.shape)} cannot hold the region "
        f"{region.size} of {region.shape}. Give a target of the region's size.",
    )
    require(
        target.dtype in DRAWABLE,
        f"{where}: {str(target.dtype).removeprefix('torch.')} cannot be drawn. Convert the tensor "
        "to float32, bfloat16, float16 or float64, or keep it.",
    )
    require(
        not target.is_meta,
        f"{where}: the tensor is on the meta device and holds no memory. Move the model with "
        "to_empty(device=...) first, or stream it to disk.",
    )
    require(
        target.layout == torch.strided,
        f"{where}: a tensor of layout {target.layout} cannot be drawn. Give a dense tensor.",
    )
    require(
        not overlaps_itself(target),
        f"{where}: several elements of the tensor share one memory location (an expanded "
        "tensor). Draw a clone() of it.",
    )
    axes.validate(region.shape)
    return region


def overlaps_itself(tensor: torch.Tensor) -> bool:
    """Whether two elements may lie at one address, as in an expanded tensor.

    Exact for what slicing, transposing and expanding make.
    """
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False
