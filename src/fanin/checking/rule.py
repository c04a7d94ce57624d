"""What a rule is: a code, a name that tells the defect, its page, and a search for findings."""

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from fanin.checking.case import Case
from fanin.checking.findings import Finding, Severity

SECTIONS = ("What it does", "Why is this bad?", "Example", "Fix", "References")
"""The sections of a rule's page, in order."""


class Needs(IntEnum):
    """What a rule must have been given; each level includes the ones before it."""

    WEIGHTS = 0
    BATCH = 1
    LOSS = 2
    PLAN = 3  # the weights and a plan; no batch


@dataclass(frozen=True)
class RuleDocs:
    """A rule's page.

    Args:
        summary: the first line: what the rule finds.
        sections: title -> Markdown text, in the order of ``SECTIONS``.
    """

    summary: str
    sections: Mapping[str, str]

    def markdown(self, code: str, name: str, level: int = 1) -> str:
        """The page as Markdown, with a heading of this level."""
        marks = "#" * level
        body = "\n\n".join(f"{marks}# {title}\n\n{text}" for title, text in self.sections.items())
        return f"{marks} {code} {name}\n\n{self.summary}\n\n{body}\n"


class Rule(ABC):
    """One rule: one file in ``checking/rules``, whose module docstring is the rule's page.

    Subclasses set ``code``, ``name`` and ``needs`` and implement ``find``.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Needs]

    @abstractmethod
    def find(self, case: Case) -> Iterator[Finding]:
        """The faults that this rule sees in a case that has what the rule needs."""

    @property
    def docs(self) -> RuleDocs:
        """The rule's page, read from the docstring of its module."""
        return _read_docs(sys.modules[type(self).__module__].__doc__ or "")

    @property
    def summary(self) -> str:
        """One line that says what the rule finds."""
        return self.docs.summary

    def documentation(self) -> str:
        """The rule's page as Markdown."""
        return self.docs.markdown(self.code, self.name)

    def finding(
        self,
        severity: Severity,
        where: str,
        message: str,
        *,
        measured: Mapping[str, float],
        expected: str,
        fix: str,
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            self.code, self.name, severity, where, message, dict(measured), expected, fix
        )


def _read_docs(text: str) -> RuleDocs:
    head, *parts = re.split(r"^## (.+)$", text.strip(), flags=re.MULTILINE)
    titles, bodies = parts[0::2], parts[1::2]
    sections = {title.strip(): body.strip() for title, body in zip(titles, bodies, strict=True)}
    return RuleDocs(" ".join(head.split()), sections)
