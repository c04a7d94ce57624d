"""Operations that torch runs on a device but refuses on meta tensors of the same kind."""

from collections.abc import Mapping
from typing import Any

import torch


def run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``func(*args, **kwargs)``, also where only torch's shape function is too strict.

    ``_grouped_mm``, the product of tokens with stacked experts, takes float32 on every device but
    bfloat16 alone on meta; shapes are the same.
    """
    first = args[0] if args else None
    if (
        func is torch.ops.aten._grouped_mm.default
        and isinstance(first, torch.Tensor)
        and first.is_meta
        and first.dtype is not torch.bfloat16
    ):
        narrow = [_narrow(value) for value in args]
        made = func(*narrow, **{**kwargs, "out_dtype": None})
        return made.to(kwargs.get("out_dtype") or first.dtype)
    return func(*args, **kwargs)


def _narrow(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.to(torch.bfloat16)
    return value
