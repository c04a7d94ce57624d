"""Plans, ledgers, diagnoses and studies for people at a terminal, from 80 columns on.

Each ``show_…`` prints one value; ``console`` is a ``rich.console.Console`` of the caller's, for
another width or stream.
"""

from fanin.reporting.terminal.diagnosis_view import show_diagnosis
from fanin.reporting.terminal.explanation_view import show_explanations
from fanin.reporting.terminal.ledger_view import show_ledger
from fanin.reporting.terminal.listing_view import (
    show_recipes,
    show_rule,
    show_rules,
    show_scheme,
    show_schemes,
)
from fanin.reporting.terminal.plan_view import show_plan
from fanin.reporting.terminal.study_view import show_study

__all__ = [
    "show_diagnosis",
    "show_explanations",
    "show_ledger",
    "show_plan",
    "show_recipes",
    "show_rule",
    "show_rules",
    "show_scheme",
    "show_schemes",
    "show_study",
]
