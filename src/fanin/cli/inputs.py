"""``--input``: a short text for a random tensor, such as ``ids=int64[4,128]<50257``."""

import re
from typing import Any

import torch

from fanin.errors import DataError

_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "bool": torch.bool,
}
_FORM = re.compile(
    r"^(?:(?P<name>\w+)=)?(?P<dtype>\w+)\[(?P<shape>[\d,\s]*)\](?:<(?P<below>\d+))?$"
)


def read_inputs(texts: list[str], given: Any = None) -> Any:
    """Random inputs from ``--input`` texts; without any, ``given``: what the target returned.

    Floats are standard normal, integers uniform below the bound, both from seed 0: what is
    printed about a model is the same at every call.

    Raises:
        DataError: a text is not of the form, or named and unnamed inputs are mixed.
    """
    if not texts:
        return given
    parsed = [_parse(text) for text in texts]
    named = [name for name, _ in parsed if name]
    if named and len(named) != len(parsed):
        raise DataError(f"--input {' '.join(texts)}: name all inputs or none of them.")
    if named:
        return dict(parsed)
    tensors = tuple(tensor for _, tensor in parsed)
    return tensors[0] if len(tensors) == 1 else tensors


def _parse(text: str) -> tuple[str | None, torch.Tensor]:
    match = _FORM.match(text.strip())
    if match is None or match["dtype"] not in _DTYPES:
        raise DataError(
            f"--input {text!r} is not of the form float32[8,3,32,32] or ids=int64[4,128]<50257; "
            f"dtypes: {', '.join(_DTYPES)}."
        )
    dtype = _DTYPES[match["dtype"]]
    shape = [int(n) for n in match["shape"].split(",") if n.strip()]
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return match["name"], torch.randn(shape, generator=generator).to(dtype)
    if dtype is torch.bool:
        return match["name"], torch.ones(shape, dtype=dtype)
    if match["below"] is None:
        raise DataError(f"--input {text!r}: say below which number the integers are: {text}<1000.")
    drawn = torch.randint(0, int(match["below"]), shape, generator=generator)
    return match["name"], drawn.to(dtype)
