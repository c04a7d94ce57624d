"""Between torch's functions and addressed numbers: seeds, checks, and tensors of every kind."""

import math
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from fanin import randomness
from fanin.errors import SchemeError
from fanin.init.seeds import next_seed
from fanin.randomness import Address, Distribution, Region

_C_NAMES = {
    torch.float32: "float",
    torch.bfloat16: "c10::BFloat16",
    torch.float16: "c10::Half",
    torch.float64: "double",
}
"""The dtypes that can be drawn, by the names that torch's messages have for them."""


class NumberError(SchemeError, TypeError):
    """Where torch raises TypeError: an argument that is no number."""


PLAIN = (Tensor, torch.nn.Parameter)
"""No subclass of a user's or of torch's, whose memory may be its own affair."""


class TensorError(SchemeError, RuntimeError):
    """Where torch raises RuntimeError: impossible bounds, or a tensor that cannot be written."""


class DtypeError(SchemeError, NotImplementedError):
    """Where torch raises NotImplementedError: no such numbers in this dtype or layout."""


class DivisionError(SchemeError, ZeroDivisionError):
    """Where torch divides by zero: a fan or a std of 0."""


def address_from(generator: torch.Generator | None) -> Address:
    """A new address: its seed is the generator's next number."""
    return Address(next_seed(generator), "")


def is_simulated(tensor: Tensor) -> bool:
    """Whether the tensor is there for its shape alone, so that there is nothing to write.

    So it is on the meta device while that is the default device, as in ``with
    torch.device("meta"): Model()``, and under torch's ``FakeTensorMode``.

    Raises:
        DtypeError: a meta tensor outside such a context, where a model would stay undrawn.
    """
    if not tensor.is_meta and type(tensor) in PLAIN:
        return False
    if tensor.is_meta:
        if torch.get_default_device().type == "meta":
            return True
        raise DtypeError(
            f"a tensor of shape {tuple(tensor.shape)} is on the meta device and holds no memory, "
            "so it cannot be drawn. Move the model with to_empty(device=...) first; to build a "
            "model without drawing it, build it under torch.device('meta')."
        )
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    return fake is not None and isinstance(tensor, fake.FakeTensor)


def write(tensor: Tensor, distribution: Distribution, generator: torch.Generator | None) -> Tensor:
    """Draw a tensor from a distribution with the next number of the generator.

    The tensor is not a simulated one.
    """
    require_drawable(tensor)
    address = address_from(generator)
    if not is_dtensor(tensor):
        randomness.fill(tensor, distribution, address)
        return tensor
    local, region = local_part(tensor)
    randomness.fill(local, distribution, address, region)
    return tensor


def write_built(
    tensor: Tensor, generator: torch.Generator | None, build: Callable[[Address], Tensor]
) -> Tensor:
    """Copy what ``build`` makes of the generator's next number; a shard gets its part."""
    if is_simulated(tensor):
        return tensor
    require_drawable(tensor)
    whole = build(address_from(generator))
    with torch.no_grad():
        if not is_dtensor(tensor):
            return tensor.copy_(whole.reshape(tensor.shape))
        local, region = local_part(tensor)
        picks = tuple(
            slice(start, start + size)
            for start, size in zip(region.start, region.size, strict=True)
        )
        local.copy_(whole.view(tensor.shape)[picks])
    return tensor


def require_drawable(tensor: Tensor) -> None:
    """Raise what torch raises for a tensor that holds no drawable numbers."""
    if tensor.dtype not in _C_NAMES or tensor.layout != torch.strided:
        kind = str(tensor.dtype).removeprefix("torch.")
        layout = "" if tensor.layout == torch.strided else f" of layout {tensor.layout}"
        raise DtypeError(
            f"drawing is not implemented for '{kind}'{layout}. Convert the tensor to float32, "
            "bfloat16, float16 or float64, dense."
        )
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise TensorError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. Make a clone "
            "to get a normal tensor before the update."
        )
    if tensor.is_contiguous():
        return
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                raise TensorError(
                    "unsupported operation: more than one element of the written-to tensor refers "
                    "to a single memory location. Please clone() the tensor before performing the "
                    "operation."
                )
            reach += stride * (size - 1)


def is_dtensor(tensor: Tensor) -> bool:
    """Whether the tensor is spread over processes by torch's DTensor."""
    if type(tensor) in PLAIN:
        # A Parameter made of a DTensor is of DTensor's type, so this loses none.
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_part(tensor: Tensor) -> tuple[Tensor, Region]:
    """The shard that this process holds, and which region of the whole it is."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    for placement in placements:
        if type(placement).__name__ not in ("Replicate", "Shard"):
            raise TensorError(
                f"a DTensor placed as {placement} cannot be drawn. Use Shard or Replicate."
            )
    size, start = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    local: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return local, Region(tuple(tensor.shape), tuple(start), tuple(size))


def number(value: float) -> float:
    """An argument as a float; a string is none, whatever it says.

    Raises:
        NumberError: no number, or not a single one.
    """
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NumberError(f"{type(value).__name__} is not a number: {error}. Give one.") from error
    raise NumberError(f"{value!r} is a string, not a number. Give a number.")


def require_bounds(low: float, high: float, dtype: torch.dtype) -> None:
    """Raise what torch raises for bounds that are reversed or not in the dtype."""
    if dtype not in _C_NAMES:
        return
    largest = torch.finfo(dtype).max
    for name, bound in (("from", low), ("to", high)):
        if not -largest <= bound <= largest:
            raise TensorError(f"{name} is out of bounds for {_C_NAMES[dtype]}")
    if low > high:
        raise TensorError(
            f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}"
        )
    if high - low > largest:
        raise TensorError(
            f"uniform_ expects to-from <= std::numeric_limits<{_C_NAMES[dtype]}>::max(), but found "
            f"to={high:g} and from={low:g} which result in to-from to exceed the limit"
        )


def require_std(std: float) -> None:
    """Raise what torch raises for a std that is negative or NaN."""
    if not std >= 0:
        raise TensorError(f"normal expects std >= 0.0, but found std {std:g}")
    if math.isinf(std):
        raise TensorError(f"normal expects a finite std, but found std {std:g}")
