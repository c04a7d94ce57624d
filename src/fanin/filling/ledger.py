"""The ledger: what was done to every parameter and buffer.  Nothing is ever silent."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fanin.filling.statistics import Measurement
from fanin.schemes.scheme import Scheme


class Status(StrEnum):
    """The verdict on one parameter or buffer."""

    INITIALISED = "initialised"
    KEPT = "kept"
    LOADED = "loaded"
    TIED = "tied"
    LEFT = "left"


@dataclass(frozen=True)
class Entry:
    """What was done to one parameter or buffer.

    Args:
        status: the verdict.
        scheme: what was drawn; None unless initialised.
        reason: why, in one sentence.
        expected_std: what the scheme promises; None where nothing was drawn.
        mean: measured mean of the tensor as ``apply`` left it; None for non-float or empty
            tensors.
        std: measured standard deviation, likewise.
        digest: BLAKE2b-128 of dtype, shape and bytes, in hex; see ``statistics.digest_of``.
        shape: its shape.

    Measuring a large model takes longer than filling it.  A drawn value is a function of seed,
    name and index alone, so the entries of drawn tensors hold that address and draw the numbers
    again when ``mean``, ``std`` or ``digest`` is first read: they describe the tensor as
    ``apply`` wrote it, also when it has been trained since.
    """

    status: Status
    scheme: Scheme | None
    reason: str
    expected_std: float | None
    mean: float | None
    std: float | None
    digest: str
    shape: tuple[int, ...] = ()

    @classmethod
    def deferred(
        cls,
        status: Status,
        scheme: Scheme | None,
        reason: str,
        expected_std: float | None,
        shape: tuple[int, ...],
        measure: Callable[[], Measurement],
    ) -> "Entry":
        """An entry whose mean, std and digest are measured when one of them is first read."""
        entry = cls.__new__(cls)
        values = {
            "status": status,
            "scheme": scheme,
            "reason": reason,
            "expected_std": expected_std,
            "shape": shape,
            "_measure": measure,
        }
        for name, value in values.items():
            object.__setattr__(entry, name, value)
        return entry

    def __getattr__(self, name: str) -> Any:
        # Reached only for what the instance does not have yet: see ``deferred``.
        measure = self.__dict__.get("_measure")
        if name not in {"mean", "std", "digest"} or measure is None:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        found = measure()
        for key in ("mean", "std", "digest"):
            object.__setattr__(self, key, getattr(found, key))
        self.__dict__.pop("_measure", None)
        return self.__dict__[name]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles carry the measured values, not the address."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def to_json(self) -> dict[str, Any]:
        """Plain values, measured now if they were not before."""
        return {
            "status": self.status.value,
            "scheme": None if self.scheme is None else self.scheme.to_json(),
            "reason": self.reason,
            "expected_std": self.expected_std,
            "mean": self.mean,
            "std": self.std,
            "digest": self.digest,
            "shape": list(self.shape),
        }


@dataclass(frozen=True)
class Ledger(Mapping[str, Entry]):
    """Parameter or buffer name -> Entry."""

    recipe: str
    seed: int
    entries: Mapping[str, Entry] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What concerns no single tensor: the plan's advice, a prefix taken off names."""

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def with_status(self, status: Status | str) -> tuple[str, ...]:
        """Names with this verdict, in the model's order."""
        return tuple(name for name, entry in self.items() if entry.status == status)

    def __str__(self) -> str:
        """A table in plain text, repeated blocks folded; a folded row measures its first tensor."""
        from fanin.filling.ledger_table import ledger_table

        return ledger_table(self)
