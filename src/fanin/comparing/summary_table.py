"""The summary of a study as plain text: a table and a sentence for each network."""

import math
from collections.abc import Sequence

from fanin.comparing.scores import METRICS
from fanin.comparing.sentences import p_value, value_with_interval
from fanin.comparing.statistics import Interval
from fanin.comparing.summary import BEST, ModelSummary, Row, Summary


def summary_text(summary: Summary) -> str:
    """Each network's table and sentence, then the notes."""
    parts = [_model_text(model) for model in summary.models] or [summary.sentence]
    return "\n\n".join([*parts, *summary.notes])


def _model_text(model: ModelSummary) -> str:
    cells = [_cells(row, model) for row in model.rows]
    header = list(cells[0])
    lines = [header, *([row[name] for name in header] for row in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    aligned = [
        "  ".join(
            cell.ljust(width) if i in (0, len(header) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([model.model, *aligned, model.sentence])


def _cells(row: Row, model: ModelSummary) -> dict[str, str]:
    cells = {"recipe": row.recipe, "lr": f"{row.learning_rate:g}"}
    cells["final loss"] = _plain(row.final_loss)
    if row.held_out_accuracy is not None:
        accuracy = METRICS["held_out_accuracy"]
        cells["held-out accuracy"] = value_with_interval(row.held_out_accuracy, accuracy)
    elif row.held_out_loss is not None:
        cells["held-out loss"] = _plain(row.held_out_loss)
    if model.target_loss is not None:
        cells[f"steps to {model.target_loss:.3g}"] = _steps(row)
    cells["diverged"] = f"{row.diverged}/{row.seeds}"
    cells["against the best"] = _verdict(row)
    return cells


def _plain(interval: Interval) -> str:
    """Mean ± half the interval, both to the second digit of the latter, four decimals at most."""
    half = (interval.high - interval.low) / 2
    if math.isnan(half) or abs(interval.mean) >= 1e4 or half >= 1e4:
        return f"{interval.mean:.3g}" + ("" if math.isnan(half) else f" ±{half:.2g}")
    places = min(4, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 3
    return f"{interval.mean:.{places}f} ±{half:.{places}f}"


def _steps(row: Row) -> str:
    if row.steps_to_target is None or row.reached == 0:
        return "never"
    mean = f"{row.steps_to_target.mean:.0f}"
    return mean if row.reached == row.seeds else f">{mean} ({row.reached}/{row.seeds})"


def _verdict(row: Row) -> str:
    if row.verdict == BEST or row.p is None:
        return row.verdict
    return f"{row.verdict} ({p_value(row.p)})"


def table_rows(model: ModelSummary) -> Sequence[dict[str, str]]:
    """The same table as dicts of text, for other renderers."""
    return [_cells(row, model) for row in model.rows]
