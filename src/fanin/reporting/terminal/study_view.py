"""A study in the terminal: per network a table, best first, and the answer in a sentence."""

import math
from typing import TYPE_CHECKING

from fanin.comparing.statistics import Interval
from fanin.comparing.study import Study
from fanin.comparing.summary import NOT_DIFFERENT, UNKNOWN, ModelSummary, Row
from fanin.reporting.numbers import number
from fanin.reporting.outcome import leaders, outcomes, ranked, sentence
from fanin.reporting.terminal.text import safe, show, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def show_study(study: Study, console: "Console | None" = None) -> None:
    """Print the summary of a study: means over seeds with their 95 % intervals."""
    from rich.panel import Panel
    from rich.text import Text

    summary = study.summary()
    if not summary.models:
        show(safe(summary.sentence), console=console)
    for model in summary.models:
        answer = Panel(
            safe(sentence(model)), title=safe(model.model), title_align="left", border_style="green"
        )
        show(_table(study, model), answer, console=console)
    notes = [*summary.notes]
    if not study.complete:
        notes.append("Not finished: run the same command again to go on from here.")
    show(*(Text.assemble(("note: ", "yellow"), safe(note)) for note in notes), console=console)


def _table(study: Study, model: ModelSummary) -> "Table":
    from rich.text import Text

    rows = [outcome.row for outcome in ranked(model, outcomes(study, model.model))]
    rates = len({row.learning_rate for row in rows}) > 1
    accuracy = any(row.held_out_accuracy for row in rows)
    held_out = any(row.held_out_loss for row in rows) and not accuracy
    diverged = any(row.diverged for row in rows)
    heads = ["recipe", *["rate"] * rates, "final loss"]
    heads += ["held-out %"] * accuracy + ["held-out loss"] * held_out
    if model.target_loss is not None:
        heads.append(f"steps to {number(model.target_loss)}")
    heads += ["diverged"] * diverged + ["verdict"]
    made = table(*heads, numbers=tuple(heads[1:-1]), fixed=("recipe",))
    best = leaders(model)
    for row in rows:
        cells = [safe(row.recipe, "bold green" if row.recipe in best else "")]
        cells += [Text(f"{row.learning_rate:g}")] * rates
        cells.append(Text(_half_width(row.final_loss)))
        cells += [Text(_accuracy(row.held_out_accuracy))] * accuracy
        cells += [Text(_half_width(row.held_out_loss))] * held_out
        if model.target_loss is not None:
            cells.append(Text(_steps(row)))
        cells += [Text(f"{row.diverged}/{row.seeds}", "red" if row.diverged else "")] * diverged
        cells.append(Text(_verdict(row)))
        made.add_row(*cells)
    return made


def _half_width(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    if math.isnan(interval.low):
        return number(interval.mean)
    return f"{number(interval.mean)} ±{number((interval.high - interval.low) / 2, 2)}"


def _accuracy(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    mean = f"{100 * interval.mean:.1f}"
    if math.isnan(interval.low):
        return mean
    return f"{mean} ±{50 * (interval.high - interval.low):.1f}"


def _verdict(row: Row) -> str:
    # Short, so that the table fits 80 columns; the sentence below it says the same in full.
    return {NOT_DIFFERENT: "undecided", UNKNOWN: "one seed"}.get(row.verdict, row.verdict)


def _steps(row: Row) -> str:
    if row.steps_to_target is None or row.reached == 0:
        return "never"
    mean = f"{row.steps_to_target.mean:.0f}"
    return mean if row.reached == row.seeds else f">{mean} ({row.reached}/{row.seeds})"
