"""The page of a diagnosis: the verdict, each finding with why and fix, and the layers by depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fanin import __version__
from fanin.checking.findings import Diagnosis, Severity
from fanin.checking.predictions import PredictedRow, predicted_rows
from fanin.reporting.folded_findings import FoldedFinding, fold, verdict
from fanin.reporting.html.page import render
from fanin.reporting.numbers import number
from fanin.signals import LayerSignal

DECADES_AT_LEAST = 2.0
"""Least span of the bars' scale, so that a factor of 1.1 between layers is no cliff."""


@dataclass(frozen=True)
class LayerRow:
    """One layer: its cells as text, the bars' lengths in percent, and what was found there."""

    layer: LayerSignal
    output_bar: float | None
    gradient_bar: float | None
    predicted: PredictedRow
    found: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class RuleGroup:
    """The findings of one rule, with the rule's own explanation where it is known."""

    folded: FoldedFinding
    why: str


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """The report of a check as one HTML file that needs no network and no script."""
    folded = fold([diagnosis.findings])
    layers = diagnosis.layers
    forward = _log_bars([layer.output_rms for layer in layers])
    backward = _log_bars([layer.gradient_rms for layer in layers])
    groups = {
        severity: [
            RuleGroup(f, _why(f.example.rule)) for f in folded if f.example.severity is severity
        ]
        for severity in Severity
    }
    told = predicted_rows(diagnosis.signals, diagnosis.predicted)
    unknown = PredictedRow(None, None)
    worst = next((s for s in Severity if groups[s]), None)
    return render(
        "diagnosis.html",
        version=__version__,
        title=f"{diagnosis.model_type}: how it starts",
        diagnosis=diagnosis,
        verdict=verdict(diagnosis.findings),
        tone="good" if diagnosis.ok else worst.value if worst else "good",
        facts=_facts(diagnosis),
        groups={severity: found for severity, found in groups.items() if found},
        rows=[
            LayerRow(layer, f, b, told.get(layer.weight, unknown), _found(diagnosis, layer))
            for layer, f, b in zip(layers, forward, backward, strict=True)
        ],
        predicted=bool(told),
        dead=any(layer.dead_share is not None for layer in layers),
        saturated=any(layer.saturated_share is not None for layer in layers),
    )


def _facts(diagnosis: Diagnosis) -> list[str]:
    signals = diagnosis.signals
    facts = [f"{signals.source} on {signals.samples} samples"] if signals.samples else []
    facts.append(f"{len(diagnosis.layers)} layers with weights")
    if signals.loss is not None:
        text = f"loss {number(signals.loss)}"
        if signals.classes and signals.classes > 1:
            text += (
                f" (ln {signals.classes} = {number(math.log(signals.classes))} is what guessing "
                "costs)"
            )
        facts.append(text)
    if diagnosis.rules_run:
        facts.append(f"{len(diagnosis.rules_run)} rules ran")
    return facts


def _why(code: str) -> str:
    """The rule's own section on why it matters; empty for a rule that this version lacks."""
    from fanin.checking import RULES

    rule = RULES.get(code)
    return rule.docs.sections.get("Why is this bad?", "") if rule is not None else ""


def _found(diagnosis: Diagnosis, layer: LayerSignal) -> list[tuple[str, str]]:
    names = {layer.weight, layer.module}
    return list(
        dict.fromkeys(
            (f.rule, f.severity.value) for f in diagnosis.findings if f.where in names and f.where
        )
    )


def _log_bars(values: Sequence[float | None]) -> list[float | None]:
    """Lengths from 4 to 100 percent on one logarithmic scale; None where there is no bar."""
    logs = [math.log10(v) if v is not None and 0 < v < math.inf else None for v in values]
    known = [v for v in logs if v is not None]
    if not known:
        return [None] * len(logs)
    high = max(known)
    span = max(DECADES_AT_LEAST, high - min(known))
    return [None if v is None else round(100 - 96 * (high - v) / span, 1) for v in logs]
