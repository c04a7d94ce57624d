"""A ledger as a table in plain text, with repeated blocks folded into one row."""

from collections.abc import Mapping
from dataclasses import dataclass

from fanin.filling.ledger import Entry, Ledger, Status
from fanin.planning.plan_table import fold_names, folded, short_scheme, show_std, text_table


@dataclass(frozen=True)
class LedgerRow:
    """One row: entries of repeated blocks that went the same way.

    Args:
        name: with ``*`` in the place of the block's number where several are folded.
        entries: those that it stands for, by name, in the model's order.
    """

    name: str
    entries: Mapping[str, Entry]

    @property
    def first(self) -> Entry:
        """The first entry: the one whose measured values the row shows."""
        return next(iter(self.entries.values()))


def fold_ledger(ledger: Ledger) -> list[LedgerRow]:
    """Rows of a ledger: what repeats with the same verdict, scheme and expected std is one row."""
    groups: dict[object, dict[str, Entry]] = {}
    for name, entry in ledger.items():
        std = None if entry.expected_std is None else f"{entry.expected_std:.6g}"
        reason = fold_names(entry.reason)
        key = (fold_names(name), entry.status, repr(entry.scheme), std, entry.shape, reason)
        groups.setdefault(key, {})[name] = entry
    rows = [
        LedgerRow(name, dict(part))
        for group in groups.values()
        for name, part in folded(list(group.items()), list(group))
    ]
    place = {name: index for index, name in enumerate(ledger)}
    return sorted(rows, key=lambda row: place[next(iter(row.entries))])


def ledger_table(ledger: Ledger) -> str:
    """The whole ledger as text: a headline, one row per tensor or folded block, the notes."""
    rows = []
    for row in fold_ledger(ledger):
        entry, count = row.first, len(row.entries)
        rows.append(
            (
                row.name + (f"  ×{count}" if count > 1 else ""),
                entry.status.value,
                "–" if entry.scheme is None else short_scheme(entry.scheme),
                show_std(entry.expected_std),
                show_std(entry.std),
                entry.reason if count == 1 else fold_names(entry.reason),
            )
        )
    heads = ("tensor", "verdict", "scheme", "expected", "std", "reason")
    counts = ", ".join(
        f"{n} {status.value}" for status in Status if (n := len(ledger.with_status(status)))
    )
    notes = "".join(f"\nnote: {note}" for note in ledger.notes)
    headline = f"recipe {ledger.recipe!r}, seed {ledger.seed}: {counts or 'no tensors'}"
    return f"{headline}\n{text_table(heads, rows)}{notes}"
