"""A diagnosis as plain text: the table of layers, then the findings."""

from collections.abc import Sequence

from fanin.checking.findings import Diagnosis, Severity
from fanin.signals import LayerSignal

_MOST_ROWS = 40
_HEADINGS = ("weight", "shape", "fan in", "std", "then", "rms", "grad rms", "dead", "saturated")
_PREDICTED = ("rms predicted", "grad rms predicted")


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
    layers, predicted = diagnosis.layers, _predictions(diagnosis)
    headings: tuple[str, ...] = _HEADINGS
    if diagnosis.predicted is not None:
        headings = (*_HEADINGS, *_PREDICTED)
    rows = [_row(layer) + predicted.get(layer.weight, ()) for layer in layers]
    if len(rows) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        hidden = f"… {len(rows) - 2 * half} more"
        rows = [*rows[:half], (hidden,), *rows[-half:]]
    return [row + ("",) * (len(headings) - len(row)) for row in [headings, *rows]]


def _predictions(diagnosis: Diagnosis) -> dict[str, tuple[str, ...]]:
    """Weight -> predicted RMS, and gradient RMS where it is that of the same loss."""
    if diagnosis.predicted is None:
        return {}
    # A prediction knows no target: its gradients are those of a direction on the output.
    same_loss = diagnosis.signals.loss_name == "cotangent"
    return {
        row.weight: (
            _number(row.output_rms),
            _number(row.gradient_rms if same_loss else None),
        )
        for row in diagnosis.predicted.layers
    }


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
