"""Write numbers into models: plans, checkpoints, and the ledger of what was done."""

from fanin.filling.adopting import adopt
from fanin.filling.applying import apply, initialize
from fanin.filling.ledger import Entry, Ledger, Status
from fanin.filling.ledger_table import LedgerRow, fold_ledger
from fanin.filling.statistics import digest_of

__all__ = [
    "Entry",
    "Ledger",
    "LedgerRow",
    "Status",
    "adopt",
    "apply",
    "digest_of",
    "fold_ledger",
    "initialize",
]
