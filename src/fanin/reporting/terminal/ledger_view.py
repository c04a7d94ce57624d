"""A ledger in the terminal: what was done to every parameter and buffer."""

from typing import TYPE_CHECKING

from fanin.filling.ledger import Ledger
from fanin.reporting.ledger_rows import LedgerRow, counts, ledger_rows
from fanin.reporting.numbers import number
from fanin.reporting.terminal.text import safe, set_name_width, show, table

if TYPE_CHECKING:
    from rich.console import Console

STATUS_STYLES = {
    "initialised": "green",
    "kept": "cyan",
    "loaded": "blue",
    "tied": "magenta",
    "left": "yellow",
}


def show_ledger(ledger: Ledger, console: "Console | None" = None) -> None:
    """Print a ledger: verdict, expected and measured std, and the reason."""
    from rich.text import Text

    rows = table("parameter", "verdict", "std (expected)", "scheme, and why", fixed=("verdict",))
    folded = ledger_rows(ledger)
    set_name_width(rows, (f"{row.name} ×{row.count}" for row in folded), console)
    for row in folded:
        name = safe(row.name)
        if row.count > 1:
            name.append(f" ×{row.count}", style="bold cyan")
        status = row.entry.status.value
        what = safe(row.entry.reason, "dim")
        if row.entry.scheme is not None:
            what = Text.assemble(safe(row.scheme, "green"), "\n", what)
        rows.add_row(name, Text(status, STATUS_STYLES.get(status, "")), _stds(row), what)
    headline = Text.assemble(
        ("ledger", "bold"), ": recipe ", safe(ledger.recipe, "bold"), f", seed {ledger.seed}: "
    )
    headline.append(counts(ledger))
    show(headline, rows, console=console)


def _stds(row: LedgerRow) -> str:
    expected = row.entry.expected_std
    return row.std if expected is None else f"{row.std} ({number(expected)})"
