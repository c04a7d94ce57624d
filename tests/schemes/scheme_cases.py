"""Every scheme, found by discovery, and the layouts that each one is tried on."""

import torch

from fanin.axes import Axes
from fanin.schemes import (
    SCHEME_CLASSES,
    SCHEMES,
    Blockwise,
    Constant,
    Function,
    Normal,
    Orthogonal,
    PyTorchDefault,
    Scaled,
    Scheme,
    Sparse,
    TruncatedNormal,
    Uniform,
    Xavier,
    Zeros,
)
from fanin.schemes.table import SchemeTable


def ramp(tensor: torch.Tensor) -> None:
    """A user's function: 0 … 1 in order."""
    tensor.copy_(torch.linspace(0, 1, tensor.numel()).view(tensor.shape))


# Values that no name or number stands for.
FURTHER: list[Scheme] = [
    Blockwise((Zeros(), Normal(std=0.1), Constant(1.0))),
    Blockwise((Orthogonal(), Xavier(), Sparse())),
    Function(ramp, std=1 / 12**0.5, mean=0.5),
    Normal(mean=3.0, std=0.5),
    Orthogonal(gain=0.5),
    PyTorchDefault("embedding"),
    PyTorchDefault("attention"),
    PyTorchDefault(fan=10.0),
    Scaled(Normal(std=0.05), 2.5),
    Scaled(Orthogonal(), (0.5, 1.5, -2.0)),
    Scaled(Uniform(-1.0, 3.0), tuple(0.5 + 0.01 * unit for unit in range(192))),
    TruncatedNormal(std=1.0, bounds_absolute=(1.0, 4.0)),
    TruncatedNormal(std=0.02, mean=1.0, cutoff_sigmas=0.5),
    Uniform(-3.0, -1.0),
]


def _all_schemes() -> list[Scheme]:
    table = SCHEMES
    assert isinstance(table, SchemeTable)
    numbered = [table[f"{stem}_3.5"] for stem in table.numbered if stem != "sparse"]
    found = [*table.values(), *numbered, *FURTHER]
    missing = set(SCHEME_CLASSES) - {type(scheme).__name__ for scheme in found}
    assert not missing, f"give an example of {missing} in FURTHER"
    return list(dict.fromkeys(found))


ALL = _all_schemes()

LAYOUTS: dict[str, tuple[tuple[int, ...], Axes]] = {
    "dense": ((192, 128), Axes(0, 1)),
    "in_out": ((128, 192), Axes(1, 0)),
    "convolution": ((64, 32, 3, 3), Axes(0, 1, (2, 3), stride=(2, 2))),
    "wide": ((32, 64, 5), Axes(0, 1, 2)),
    "grouped": ((64, 8, 3, 3), Axes(0, 1, (2, 3), groups=4)),
    "depthwise": ((256, 1, 3, 3), Axes(0, 1, (2, 3), groups=256)),
    "transposed": ((32, 16, 4, 4), Axes(1, 0, (2, 3), stride=(2, 2), transposed=True)),
    "transposed_grouped": ((32, 16, 2), Axes(1, 0, 2, groups=4, transposed=True)),
    "packed": ((192, 64), Axes(0, 1, block_sizes=(64, 64, 64))),
    "uneven": ((160, 64), Axes(0, 1, block_sizes=(96, 32, 32))),
    "experts": ((3, 64, 48), Axes(1, 2, batch=0)),
    "heads": ((4, 16, 64), Axes((0, 1), 2)),
    "bias": ((4096,), Axes(0)),
}
