"""What a check returns: findings, the table of layers, and the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fanin.measuring.signals import LayerSignal, Signals


class Severity(StrEnum):
    """How bad a finding is.  ``ok`` means no error and no warning."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One fault seen by one numbered rule.

    Args:
        rule: the rule's code, such as ``"FAN103"``.
        name: the rule's name, such as ``"vanishing-activations"``: it names the defect.
        severity: error, warning or note.
        where: parameter, module or tensor, as a path in the model.
        message: one sentence for a person.
        measured: what was seen, by name.
        expected: what a healthy start shows, in words.
        fix: what to do, in one sentence, naming a fanin call where one mends it.
    """

    rule: str
    name: str
    severity: Severity
    where: str
    message: str
    measured: Mapping[str, float] = field(default_factory=dict)
    expected: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The findings, worst first, and what they were read from."""

    model_type: str
    findings: tuple[Finding, ...]
    signals: Signals
    rules_run: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[LayerSignal, ...]:
        """The table of layers."""
        return self.signals.layers

    @property
    def ok(self) -> bool:
        """No error and no warning; notes do not count."""
        return all(f.severity is Severity.NOTE for f in self.findings)
