"""Data of a study: whatever the user has, read into tensors, and refused if unusable."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map

from fanin.errors import DataError

HELD_OUT_SHARE = 0.2
"""Share of the samples held out where the user gives no held-out data."""

MOST_HELD_OUT = 2_000
"""Held-out samples that are looked at: enough for 1 % of accuracy, cheap enough to look often."""

SPLIT_SEED = 0
"""Of the split and of the order of the batches: the same in every trial of every study."""

FORMS = (
    "Give (x, y) tensors or arrays, a pair (train, held_out) of those, a map-style Dataset of "
    "(x, y) samples, or a function without arguments that returns one."
)


@dataclass(frozen=True)
class Samples:
    """Inputs and targets, sample by sample along axis 0.

    Args:
        x: a tensor, a tuple of positional or a dict of keyword arguments of tensors.
        y: the targets.
    """

    x: Any
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, index: torch.Tensor) -> "Samples":
        """The samples at ``index``, in that order."""
        return Samples(tree_map(lambda t: t[index], self.x), self.y[index])

    def to(self, device: torch.device) -> "Samples":
        """The same samples on a device."""
        return Samples(tree_map(lambda t: t.to(device), self.x), self.y.to(device))


@dataclass(frozen=True)
class Split:
    """What is trained on, and what is only looked at."""

    train: Samples
    held_out: Samples | None
    name: str
    samples: int
    """Training samples before any were left unread."""


Reader = Callable[[Any], Any]


def read_data(data: Any, *, rows_needed: int) -> Split:
    """Read data in any of the forms that ``compare`` takes.

    Args:
        data: (x, y), (train, held_out), a Dataset or DataLoader, or a function returning one.
        rows_needed: samples that training can use; of a Dataset no more than these are read.

    Raises:
        DataError: another form, empty, lengths that differ, or NaN or infinity in it.
    """
    name = _name_of(data)
    if callable(data) and not hasattr(data, "__getitem__"):
        try:
            data = data()
        except Exception as error:
            raise DataError(
                f"data: {name} raised {type(error).__name__}: {error}. Mend it, or pass the "
                "tensors themselves."
            ) from error
    if _is_pair_of_sets(data):
        train = _samples(data[0], "training data", rows_needed)
        held_out = _samples(data[1], "held-out data", MOST_HELD_OUT)
        if len(held_out) > MOST_HELD_OUT:
            held_out = held_out.rows(_order(len(held_out))[:MOST_HELD_OUT])
        return Split(train, held_out, name, len(train))
    whole = _samples(data, "data", rows_needed + MOST_HELD_OUT)
    if len(whole) < 2:
        raise DataError(f"data: {len(whole)} sample is too few to train on. Give at least two.")
    order = _order(len(whole))
    count = max(1, min(MOST_HELD_OUT, int(len(whole) * HELD_OUT_SHARE)))
    train = whole.rows(order[count:])
    return Split(train, whole.rows(order[:count]), name, len(train))


def batch_rows(samples: int, batch_size: int, steps: int) -> torch.Tensor:
    """Rows of every batch, ``(steps, batch_size)``: whole passes in shuffled order, end to end."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    needed = steps * batch_size
    passes = -(-needed // samples)
    order = torch.cat([torch.randperm(samples, generator=generator) for _ in range(passes)])
    return order[:needed].view(steps, batch_size)


def _order(count: int) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))


def _name_of(data: Any) -> str:
    name = getattr(data, "__qualname__", None) or type(data).__qualname__
    return "tensors" if name in {"tuple", "list"} else str(name)


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray)


def _is_pair_of_sets(data: Any) -> bool:
    # (x, y) and (train, held_out) are both pairs; only in the first is the second an array.
    return isinstance(data, tuple | list) and len(data) == 2 and not _is_array(data[1])


def _samples(data: Any, what: str, most: int) -> Samples:
    if isinstance(data, torch.utils.data.DataLoader):
        data = data.dataset
    if isinstance(data, tuple | list) and len(data) == 2 and _is_array(data[1]):
        x, y = data
    elif isinstance(data, Samples):
        x, y = data.x, data.y
    elif (
        hasattr(data, "__getitem__")
        and isinstance(data, Sized)
        and not (_is_array(data) or isinstance(data, str | bytes | Mapping))
    ):
        x, y = _read_dataset(data, what, most)
    else:
        raise DataError(f"{what}: {type(data).__name__} cannot be read. {FORMS}")
    x, y = tree_map(_as_tensor, x), _as_tensor(y)
    _refuse_unusable(x, y, what)
    return Samples(x, y)


def _read_dataset(data: Any, what: str, most: int) -> tuple[Any, Any]:
    count = len(data)
    if count == 0:
        raise DataError(f"{what}: it is empty. Give at least two samples.")
    index = _order(count)[:most].tolist() if count > most else range(count)
    items = []
    for i in index:
        try:
            item = data[i]
        except Exception as error:
            raise DataError(
                f"{what}: sample {i} cannot be read ({type(error).__name__}: {error}). {FORMS}"
            ) from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{what}: sample {i} is not a pair (x, y). {FORMS}")
        items.append(item)
    try:
        x = tree_map(
            lambda *parts: torch.stack(parts), *(tree_map(_as_tensor, i[0]) for i in items)
        )
        y = torch.stack([_as_tensor(item[1]) for item in items])
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{what}: its samples cannot be stacked ({error}). Bring them to one shape first."
        ) from error
    return x, y


def _as_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        tensor = value.detach()
    elif isinstance(value, np.ndarray | np.generic | int | float | Sequence):
        try:
            tensor = torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError) as error:
            raise DataError(f"data: {error}. Give numbers.") from error
    else:
        raise DataError(f"data: {type(value).__name__} is not a tensor or an array. {FORMS}")
    # NumPy's default is float64, models are float32: without this every array would be refused.
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def _refuse_unusable(x: Any, y: torch.Tensor, what: str) -> None:
    parts = tree_flatten(x)[0]
    if not parts:
        raise DataError(f"{what}: x is empty. {FORMS}")
    if any(part.dim() == 0 for part in (*parts, y)):
        raise DataError(f"{what}: a single number has no samples. {FORMS}")
    for part in parts:
        if len(part) != len(y):
            raise DataError(
                f"{what}: x has {len(part)} samples and y has {len(y)}. Give one target a sample."
            )
    if len(y) == 0 or any(part.numel() == 0 for part in parts):
        raise DataError(f"{what}: it is empty. Give at least two samples.")
    for name, part in (*(("x", p) for p in parts), ("y", y)):
        if part.is_floating_point() and not bool(part.isfinite().all()):
            bad = part.reshape(len(part), -1).isfinite().all(dim=1).logical_not()
            row = int(bad.nonzero()[0])
            raise DataError(
                f"{what}: {name} holds NaN or infinity in {int(bad.sum())} of {len(part)} samples "
                f"(first: sample {row}). Remove or replace them."
            )
