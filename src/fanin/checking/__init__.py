"""Numbered rules that say what is wrong with a model's start, and how to mend it."""

from fanin.checking.examine import check
from fanin.checking.findings import Diagnosis, Finding, Severity, UnhealthyStartError
from fanin.checking.rule import Needs, Rule, RuleDocs
from fanin.checking.selecting import RULES, find_rule

__all__ = [
    "RULES",
    "Diagnosis",
    "Finding",
    "Needs",
    "Rule",
    "RuleDocs",
    "Severity",
    "UnhealthyStartError",
    "check",
    "find_rule",
]
