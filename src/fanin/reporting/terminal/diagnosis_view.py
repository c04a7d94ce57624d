"""A diagnosis in the terminal: the verdict, the findings, the table of layers."""

from typing import TYPE_CHECKING

from fanin.checking.findings import Diagnosis
from fanin.checking.predictions import PredictedRow, predicted_rows
from fanin.reporting.folded_findings import SEVERITIES, FoldedFinding, fold, verdict
from fanin.reporting.numbers import number
from fanin.reporting.terminal.text import SEVERITY_STYLES, safe, set_name_width, show, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PLACES_SHOWN = 4
LAYERS_SHOWN = 40
WIDE = 110
"""Width of a terminal in which predictions have columns of their own; else they stand below."""


def show_diagnosis(diagnosis: Diagnosis, console: "Console | None" = None) -> None:
    """Print a diagnosis: layers first, findings last, where the eye is when it ends."""
    from rich.padding import Padding
    from rich.text import Text

    parts: list[Table | Text | Padding] = []
    if diagnosis.layers:
        parts += [_layers(diagnosis, console), Text("")]
    for found in fold([diagnosis.findings]):
        parts += [_headline(found), Padding(_body(found), (0, 0, 1, 4))]
    style = "green" if diagnosis.ok else SEVERITY_STYLES[_worst(diagnosis)]
    parts.append(
        Text.assemble(
            safe(diagnosis.model_type, "bold"), ": ", (verdict(diagnosis.findings), style)
        )
    )
    show(*parts, console=console)


def _worst(diagnosis: Diagnosis) -> str:
    return min(SEVERITIES, key=lambda s: not any(f.severity is s for f in diagnosis.findings)).value


def _headline(found: FoldedFinding) -> "Text":
    from rich.text import Text

    finding = found.example
    places = ", ".join(found.places[:PLACES_SHOWN])
    if len(found.places) > PLACES_SHOWN:
        places += f" and {len(found.places) - PLACES_SHOWN} more"
    return Text.assemble(
        (finding.severity.value, SEVERITY_STYLES[finding.severity.value]),
        " ",
        safe(finding.rule, "bold"),
        " ",
        safe(finding.name),
        safe(f" at {places}", "dim"),
    )


def _body(found: FoldedFinding) -> "Text":
    from rich.text import Text

    finding = found.example
    lines = [safe(finding.message)]
    if finding.expected:
        lines.append(Text.assemble(("expected: ", "dim"), safe(finding.expected)))
    if finding.fix:
        lines.append(Text.assemble(("fix: ", "green"), safe(finding.fix)))
    return Text("\n").join(lines)


def _layers(diagnosis: Diagnosis, console: "Console | None") -> "Table":
    """The table of layers; of a deep model its first and last ones and those with a finding."""
    from rich.text import Text

    shown, blamed = diagnosis.layers, {finding.where for finding in diagnosis.findings}
    dead = any(layer.dead_share is not None for layer in shown)
    saturated = any(layer.saturated_share is not None for layer in shown)
    told = predicted_rows(diagnosis.signals, diagnosis.predicted)
    beside = bool(told) and _width(console) >= WIDE
    heads = ["layer", "kind", "then", "fan in", "std", "output", "gradient"]
    if beside:
        heads[5:] = ["output", "predicted", "gradient", "predicted"]
    heads += ["dead"] * dead + ["flat"] * saturated
    words = {"layer", "kind", "then"}
    made = table(*heads, numbers=tuple(head for head in heads if head not in words))
    which = "predicted" if beside else "below each"
    foreseen = [f"{which}: the same, predicted from the graph alone."] * bool(told)
    made.caption = "std: of the weight. output, gradient: RMS. " + " ".join(
        foreseen
        + ["dead: units that are always 0."] * dead
        + ["flat: saturated elements."] * saturated
    )
    made.caption_justify = "left"
    set_name_width(made, (layer.weight for layer in shown), console, share=0.3)
    skipped = 0
    for place, layer in enumerate(shown):
        near_an_end = min(place, len(shown) - 1 - place) < LAYERS_SHOWN // 2
        if not near_an_end and not blamed & {layer.weight, layer.module}:
            skipped += 1
            continue
        if skipped:
            made.add_row(Text(f"… {skipped} more", "dim"))
            skipped = 0
        cells = [
            safe(layer.weight),
            safe(layer.kind),
            safe(layer.activation),
            safe(f"{layer.fan_in:g}"),
            safe(number(layer.weight_std)),
        ]
        rms = (layer.output_rms, layer.gradient_rms)
        foretold = told.get(layer.weight, PredictedRow(None, None))
        for value, prediction in zip(rms, foretold, strict=True):
            if not told or beside:
                cells += [safe(number(v)) for v in ((value, prediction) if told else (value,))]
            else:
                cells.append(
                    Text.assemble(safe(number(value)), "\n", safe(number(prediction), "dim"))
                )
        cells += [safe(_share(layer.dead_share))] * dead
        cells += [safe(_share(layer.saturated_share))] * saturated
        made.add_row(*cells)
    return made


def _width(console: "Console | None") -> int:
    from rich.console import Console

    return (console or Console()).width


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}%"
