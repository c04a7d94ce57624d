"""What a tensor must be to be filled."""

import sys

import torch

from fanin.errors import SchemeError
from fanin.randomness.address import Region
from fanin.randomness.formats import format_of


def check_target(target: torch.Tensor, region: Region | None) -> None:
    """Refuse a tensor that cannot hold drawn numbers.

    Raises:
        SchemeError: its dtype, device, layout or strides, or its shape beside the region's size.
    """
    if torch.nn.parameter.is_lazy(target):
        raise SchemeError(
            "cannot fill a lazy parameter: it has no shape yet. Run the module once on an input."
        )
    what = f"a tensor of shape {tuple(target.shape)} and dtype {target.dtype}"
    format_of(target.dtype)
    if target.is_meta or _is_instance(target, "torch._subclasses.fake_tensor", "FakeTensor"):
        raise SchemeError(
            f"cannot fill {what} on the meta device: it has no memory. "
            "Move the module off it first with module.to_empty(device=...)."
        )
    if _is_instance(target, "torch.distributed.tensor", "DTensor"):
        raise SchemeError(
            f"cannot fill {what} across processes. Fill its local tensor, with the region of the "
            "whole that it holds."
        )
    if target.layout != torch.strided:
        raise SchemeError(f"cannot fill {what} of layout {target.layout}. Give a dense tensor.")
    if region is not None and tuple(target.shape) != region.size:
        raise SchemeError(
            f"cannot fill {what} with a region of size {region.size}. "
            "The region's size must be the tensor's shape."
        )
    if _may_overlap(target):
        raise SchemeError(
            f"cannot fill {what} and strides {target.stride()}: elements share memory. "
            "Fill the tensor that it was expanded from, or a clone."
        )


def _is_instance(target: torch.Tensor, module: str, name: str) -> bool:
    """Whether it is of a class whose module may not even be loaded."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(target, getattr(loaded, name, ()))


def _may_overlap(target: torch.Tensor) -> bool:
    """Whether two elements may lie at one place: an axis steps inside the span of finer ones."""
    if target.numel() == 0 or target.is_contiguous():
        return False
    span = 0
    for stride, size in sorted(zip(target.stride(), target.shape, strict=True)):
        if size > 1:
            if stride <= span:
                return True
            span += stride * (size - 1)
    return False
