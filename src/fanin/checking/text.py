"""A diagnosis as plain text: the table of layers, then the findings."""

from collections.abc import Sequence

from fanin.checking.findings import Diagnosis, Severity
from fanin.checking.predictions import PredictedRow, predicted_rows
from fanin.signals import LayerSignal

_MOST_ROWS = 40
_HEADINGS = ("weight", "shape", "fan in", "std", "then", "rms", "grad rms", "dead", "saturated")
_WITH_PREDICTED = (*_HEADINGS[:6], "predicted", "grad rms", "predicted", *_HEADINGS[7:])


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """The table of layers (the middle of long models left out), the findings, the verdict."""
    parts = []
    if diagnosis.layers:
        parts.append(_table(_rows(diagnosis)))
    loss = diagnosis.signals.loss
    if loss is not None:
        parts.append(f"loss {loss:.4g} ({diagnosis.signals.loss_name})")
    parts += [f"note: {note}" for note in diagnosis.signals.notes]
    parts += [_finding_text(diagnosis, index) for index in range(len(diagnosis.findings))]
    counts = ", ".join(
        f"{diagnosis.count(s)} {s}{'' if diagnosis.count(s) == 1 else 's'}" for s in Severity
    )
    verdict = "ok" if diagnosis.ok else "not ok"
    parts.append(f"{diagnosis.model_type}: {verdict} ({counts}; {_ran(diagnosis)})")
    return "\n".join(parts)


def _ran(diagnosis: Diagnosis) -> str:
    return f"{len(diagnosis.rules_run)} rules ran"


def _finding_text(diagnosis: Diagnosis, index: int) -> str:
    finding = diagnosis.findings[index]
    lines = [f"{finding.rule} {finding.severity} {finding.name} at {finding.where or 'the model'}"]
    lines.append(f"  {finding.message}")
    if finding.expected:
        lines.append(f"  expected: {finding.expected}")
    if finding.fix:
        lines.append(f"  fix: {finding.fix}")
    return "\n".join(lines)


def _rows(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    predicted = predicted_rows(diagnosis.signals, diagnosis.predicted)
    headings: tuple[str, ...] = _HEADINGS
    if diagnosis.predicted is None:
        rows = [_row(layer) for layer in diagnosis.layers]
    else:
        unknown = PredictedRow(None, None)
        headings = _WITH_PREDICTED
        rows = [
            _with_predicted(_row(layer), predicted.get(layer.weight, unknown))
            for layer in diagnosis.layers
        ]
    if len(rows) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        hidden = f"… {len(rows) - 2 * half} more"
        rows = [*rows[:half], (hidden,), *rows[-half:]]
    return [row + ("",) * (len(headings) - len(row)) for row in [headings, *rows]]


def _with_predicted(row: tuple[str, ...], told: PredictedRow) -> tuple[str, ...]:
    """The row with each prediction behind its measurement."""
    gradient = (row[6], _number(told.gradient_rms))
    return (*row[:6], _number(told.output_rms), *gradient, *row[7:])


def _row(layer: LayerSignal) -> tuple[str, ...]:
    return (
        layer.weight,
        "×".join(map(str, layer.shape)),
        f"{layer.fan_in:g}",
        _number(layer.weight_std),
        layer.activation,
        _number(layer.output_rms),
        _number(layer.gradient_rms),
        _share(layer.dead_share),
        _share(layer.saturated_share),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        # Names to the left, numbers to the right.
        cells = [
            cell.ljust(width) if index in (0, 1, 4) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
