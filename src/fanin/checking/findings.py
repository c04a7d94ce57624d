"""What a check returns: findings, the table of layers, and the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fanin.signals import LayerSignal, Signals


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
    """The findings, worst first, and what they were read from.

    ``predicted`` holds what the graph alone says of the same layers, when it was asked for.
    """

    model_type: str
    findings: tuple[Finding, ...]
    signals: Signals
    rules_run: tuple[str, ...] = ()
    predicted: Signals | None = None

    @property
    def layers(self) -> tuple[LayerSignal, ...]:
        """The table of layers."""
        return self.signals.layers

    @property
    def ok(self) -> bool:
        """No error and no warning; notes do not count."""
        return all(f.severity is Severity.NOTE for f in self.findings)

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(f.severity is severity for f in self.findings)

    def assert_ok(self) -> None:
        """Raise UnhealthyStartError, which lists the findings, unless ``ok``.

        Examples:
            >>> from fanin.signals import Signals
            >>> Diagnosis("Net", (), Signals("measured", {}, ())).assert_ok()
        """
        if not self.ok:
            raise UnhealthyStartError(self)

    def save(self, path: str | Path) -> None:
        """Write a report; the ending says which: ``.html``, ``.json`` or ``.sarif``.

        Raises:
            OutputError: another ending, or a place that cannot be written.
        """
        # Reports stand above checks; only this method reaches up to them, when it is called.
        from fanin import reporting

        reporting.save_diagnosis(self, Path(path))

    def __str__(self) -> str:
        from fanin.checking.text import diagnosis_text

        return diagnosis_text(self)


class UnhealthyStartError(AssertionError):
    """What ``assert_ok`` raises: the findings at warning or above, one a line."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        worst = [f for f in diagnosis.findings if f.severity is not Severity.NOTE]
        lines = [f"{diagnosis.model_type} does not start well: {len(worst)} finding(s)."]
        lines += [f"  {f.rule} {f.severity} {f.where}: {f.message} {f.fix}" for f in worst]
        super().__init__("\n".join(lines))
        self.diagnosis = diagnosis
