"""A ledger as rows: repeated blocks that got the same are one row."""

from collections.abc import Sequence
from dataclasses import dataclass

from fanin.filling.ledger import Entry, Ledger, Status
from fanin.planning.plan_table import fold_names, short_scheme
from fanin.reporting.numbers import number


@dataclass(frozen=True)
class LedgerRow:
    """One row: entries of repeated blocks with one verdict, scheme and reason.

    Args:
        name: with ``*`` in the place of the block's number where several are folded.
        entries: those that it stands for, by name, in the model's order.
    """

    name: str
    entries: Sequence[tuple[str, Entry]]

    @property
    def count(self) -> int:
        """How many tensors the row stands for."""
        return len(self.entries)

    @property
    def entry(self) -> Entry:
        """The first of them."""
        return self.entries[0][1]

    @property
    def scheme(self) -> str:
        """The scheme in short; empty where nothing was drawn."""
        return "" if self.entry.scheme is None else short_scheme(self.entry.scheme)

    @property
    def std(self) -> str:
        """The measured std, or from the smallest to the largest."""
        return _range([entry.std for _, entry in self.entries])

    @property
    def mean(self) -> str:
        """The measured mean, likewise."""
        return _range([entry.mean for _, entry in self.entries])


def ledger_rows(ledger: Ledger) -> list[LedgerRow]:
    """The rows of a ledger, in the model's order."""
    groups: dict[object, list[tuple[str, Entry]]] = {}
    for name, entry in ledger.items():
        expected = None if entry.expected_std is None else f"{entry.expected_std:.6g}"
        key = (fold_names(name), entry.status, repr(entry.scheme), expected, entry.reason)
        groups.setdefault(key, []).append((name, entry))
    return [
        LedgerRow(group[0][0] if len(group) == 1 else fold_names(group[0][0]), tuple(group))
        for group in groups.values()
    ]


def counts(ledger: Ledger) -> str:
    """``12 initialised, 3 kept``: how many tensors got which verdict."""
    found = dict.fromkeys(Status, 0)
    for entry in ledger.values():
        found[entry.status] += 1
    return ", ".join(f"{n} {status.value}" for status, n in found.items() if n) or "nothing in it"


def _range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = number(min(known)), number(max(known))
    return low if low == high else f"{low} to {high}"
