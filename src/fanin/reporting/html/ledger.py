"""The page of a ledger: what was done to every parameter and buffer."""

from fanin import __version__
from fanin.filling.ledger import Ledger, Status
from fanin.reporting.html.page import render
from fanin.reporting.ledger_rows import counts, ledger_rows


def ledger_page(ledger: Ledger) -> str:
    """The ledger as one HTML file that needs no network and no script."""
    return render(
        "ledger.html",
        version=__version__,
        title="What every tensor got",
        ledger=ledger,
        counts=counts(ledger),
        rows=ledger_rows(ledger),
        tones={
            Status.INITIALISED: "good",
            Status.KEPT: "note",
            Status.LOADED: "note",
            Status.TIED: "note",
            Status.LEFT: "warning",
        },
    )
