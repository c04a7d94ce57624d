"""Tensors made of nothing: zeros, ones, fills, empty memory."""

from dataclasses import replace
from math import prod

import torch

from fanin.propagation.call import Call
from fanin.propagation.profile import MOST_PLACES
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import MASKING, State, constant


def filled(call: Call, value: float) -> State:
    """One number everywhere, whatever the tensor that lent its shape; masks may hold −∞."""
    shape = call.shape()
    if prod(shape) > MOST_PLACES:
        return constant(shape, value)
    kind = getattr(torch, call.kind(call.operation.outputs[0]))
    never = value < MASKING
    return replace(
        constant(shape, 0.0 if never else value),
        known=torch.full(shape, value, dtype=kind),
        blocked=torch.ones(shape, dtype=torch.bool) if never else None,
        blocked_level=value if never else 0.0,
    )


@forward("zeros", "zeros_like", "new_zeros", "zero", "empty", "empty_like", "new_empty",
         "empty_strided", "new_empty_strided")  # fmt: skip
def zeros(call: Call) -> State:
    """0; memory that is only allocated counts as 0 until it is written."""
    return constant(call.shape(), 0.0) if "empty" in call.name else filled(call, 0.0)


@forward("ones", "ones_like", "new_ones")
def ones(call: Call) -> State:
    """1."""
    return filled(call, 1.0)


@forward("full", "full_like", "new_full", "fill", "scalar_tensor")
def full(call: Call) -> State:
    """The value given."""
    position = 0 if call.name == "scalar_tensor" else 1
    value = call.raw(position if call.name != "new_full" else 2, "fill_value")
    if isinstance(value, int | float | bool):
        return filled(call, float(value))
    return constant(call.shape(), call.state(position).mean)


@backward("zeros", "zeros_like", "new_zeros", "zero", "empty", "empty_like", "new_empty",
          "empty_strided", "new_empty_strided", "ones", "ones_like", "new_ones", "full",
          "full_like", "new_full", "fill", "scalar_tensor")  # fmt: skip
def no_gradient(call: Call) -> list[Pass]:
    """Constants have none."""
    return []
