"""Findings folded by rule: one line per rule, not one per layer and seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from fanin.checking.findings import Finding, Severity

SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.NOTE)
"""Worst first."""


@dataclass(frozen=True)
class FoldedFinding:
    """All findings of one rule and severity.

    Args:
        findings: all of them, in order.
        places: where, each once, in order.
        runs: in how many of the runs.
    """

    findings: tuple[Finding, ...]
    places: tuple[str, ...]
    runs: int

    @property
    def example(self) -> Finding:
        """The first."""
        return self.findings[0]


def fold(runs: Sequence[Sequence[Finding]]) -> list[FoldedFinding]:
    """The findings of several runs (seeds, or one check) by rule, worst first."""
    by_rule: dict[tuple[Severity, str], list[tuple[int, Finding]]] = {}
    for place, findings in enumerate(runs):
        for finding in findings:
            by_rule.setdefault((finding.severity, finding.rule), []).append((place, finding))
    ordered = sorted(by_rule.items(), key=lambda item: (SEVERITIES.index(item[0][0]), item[0][1]))
    return [
        FoldedFinding(
            findings=tuple(finding for _, finding in found),
            places=tuple(dict.fromkeys(f.where or "the whole model" for _, f in found)),
            runs=len({place for place, _ in found}),
        )
        for _, found in ordered
    ]


def verdict(findings: Sequence[Finding]) -> str:
    """``2 errors, 1 warning``; ``nothing found`` for none.

    Examples:
        >>> verdict([])
        'nothing found'
    """
    parts = []
    for severity in SEVERITIES:
        n = sum(finding.severity is severity for finding in findings)
        if n:
            parts.append(f"{n} {severity.value}{'s' if n > 1 else ''}")
    return ", ".join(parts) or "nothing found"
