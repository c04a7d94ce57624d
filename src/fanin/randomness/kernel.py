"""The compiled kernel: whether it is there, which vector width runs, and the call.

``FANIN_KERNEL`` in the environment chooses: ``off`` for the array program, or the name of a
width (``baseline``, ``avx2``, ``avx512``, ``neon``).  The numbers are the same in every case.
"""

import logging
import os
import struct
from dataclasses import astuple
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch

from fanin.errors import UnknownNameError, unknown_name
from fanin.randomness.specification import RandomDistribution, numbers_of
from fanin.randomness.truncated import QuantileNumbers
from fanin.randomness.truncated_fit import FittedNumbers
from fanin.randomness.uniform import UniformNumbers

_LOG = logging.getLogger("fanin.randomness")
_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
_FITTED_KINDS = {"narrow": 4, "tail": 5, "root": 6}
_OFF = "off"


class Kernel:
    """One vector width of the compiled kernel."""

    def __init__(self, module: Any, width: int, name: str) -> None:
        self.name = name
        self._contiguous = module.fill_contiguous
        self._strided = module.fill_strided
        self._width = width

    def fill(
        self, target: torch.Tensor, constants: "Constants", key: int, first: int, threads: int
    ) -> None:
        """Write elements ``first`` … into a contiguous tensor."""
        kind, dtype, numbers = constants
        self._contiguous(
            self._width,
            kind,
            dtype,
            key,
            numbers,
            target.data_ptr(),
            first,
            target.numel(),
            threads,
        )

    def fill_strided(
        self,
        target: torch.Tensor,
        constants: "Constants",
        key: int,
        first: int,
        element_steps: tuple[int, ...],
        threads: int,
    ) -> None:
        """Write elements that lie ``element_steps`` apart into a tensor of any strides."""
        kind, dtype, numbers = constants
        self._strided(
            self._width,
            kind,
            dtype,
            key,
            numbers,
            target.data_ptr(),
            first,
            tuple(target.shape),
            element_steps,
            target.stride(),
            threads,
        )


Constants = tuple[int, int, bytes]
"""Kind, dtype, and the numbers of the distribution as the kernel takes them."""

INTEGERS: Constants = (7, 4, b"")
"""The 63-bit integers of ``choice``, into an int64 tensor."""


@lru_cache(maxsize=1024)
def kernel_constants(distribution: RandomDistribution, dtype: torch.dtype) -> Constants | None:
    """What the kernel needs to know of a distribution; None where only the array program will do.

    Raises:
        SchemeError: the distribution cannot be drawn as this dtype.
    """
    numbers = numbers_of(distribution, dtype)
    if isinstance(numbers, UniformNumbers):
        # The kernel joins 2**-31 to ``half``, which is exact unless the product is subnormal.
        if dtype != torch.float64 and 0 < numbers.half < 2.0**-90:
            return None
        kind, values = 0, astuple(numbers)
    elif isinstance(numbers, QuantileNumbers):
        kind, values = 3 if numbers.wide else 2, astuple(numbers)[:-1]
    elif isinstance(numbers, FittedNumbers):
        kind = _FITTED_KINDS[numbers.kind]
        values = (*astuple(numbers)[1:-1], *numbers.coefficients)
    else:
        kind, values = 1, astuple(numbers)
    return kind, _DTYPES[dtype], struct.pack(f"{len(values)}d", *values)


def unpack(constants: Constants) -> tuple[float, ...]:
    """The numbers of a distribution, out of the bytes that the compiled kernel takes."""
    return struct.unpack(f"{len(constants[2]) // 8}d", constants[2])


@lru_cache(maxsize=1)
def kernel() -> Kernel | None:
    """The kernel that fills CPU tensors in this process; None if the array program does.

    Raises:
        UnknownNameError: ``FANIN_KERNEL`` names no width that this processor and build have.
    """
    wanted = os.environ.get("FANIN_KERNEL", "")
    if wanted == _OFF:
        _LOG.debug("FANIN_KERNEL=off: the array program fills")
        return None
    try:
        module = _module()
    except ImportError as error:
        if wanted:
            raise UnknownNameError(
                f"FANIN_KERNEL={wanted}, but the compiled kernel cannot be imported ({error}). "
                "Unset FANIN_KERNEL, or install fanin where a C++ compiler is."
            ) from error
        _LOG.debug("no compiled kernel (%s): the array program fills", error)
        return None
    names = module.widths()
    if wanted and wanted not in names:
        raise unknown_name("FANIN_KERNEL", wanted, [_OFF, *names], "fanin --version")
    name = wanted or names[-1]
    _LOG.debug("the compiled kernel fills, vector width %s of %s", name, ", ".join(names))
    return Kernel(module, names.index(name), name)


def kernel_in_use() -> str:
    """The name of the vector width that fills CPU tensors, or ``"off"`` for the array program."""
    chosen = kernel()
    return _OFF if chosen is None else chosen.name


def kernels() -> list[str]:
    """Every value of ``FANIN_KERNEL`` that works here, the array program first."""
    try:
        return [_OFF, *_module().widths()]
    except ImportError:
        return [_OFF]


def _module() -> Any:
    return import_module("fanin.randomness._kernel")
