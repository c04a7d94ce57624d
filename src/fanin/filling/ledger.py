"""The ledger: what was done to every parameter and buffer.  Nothing is ever silent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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
        mean: measured mean of the tensor as it now stands; None for non-float or empty tensors.
        std: measured standard deviation, likewise.
        digest: BLAKE2b-128 of dtype, shape and bytes, in hex.
    """

    status: Status
    scheme: Scheme | None
    reason: str
    expected_std: float | None
    mean: float | None
    std: float | None
    digest: str


@dataclass(frozen=True)
class Ledger(Mapping[str, Entry]):
    """Parameter or buffer name -> Entry."""

    recipe: str
    seed: int
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)
