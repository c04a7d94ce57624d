"""``fanin check``: run a model once forward and once backward, and say what is wrong."""

from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.arguments import Inputs, Target, check_writable
from fanin.errors import unknown_name

_ORDER = ("note", "warning", "error")


def check_command(
    target: Target,
    input: Inputs = [],  # noqa: B006 (typer reads the default once)
    data: Annotated[
        str | None,
        typer.Option(help="A TARGET that gives (inputs, target), for rules that need a loss."),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy, bce, mse, l1, huber, or a TARGET for loss(output, target); "
            "default: from the target."
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Check the tensors against this saved plan as well.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Initialise with this recipe first; default: check as built.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for --recipe.", min=0)] = 0,
    select: Annotated[list[str], typer.Option(help="Only these rules. Repeatable.")] = [],  # noqa: B006
    ignore: Annotated[list[str], typer.Option(help="Not these rules. Repeatable.")] = [],  # noqa: B006
    predict: Annotated[
        bool,
        typer.Option(help="Show beside each measured RMS what the graph alone predicts."),
    ] = True,
    fail_on: Annotated[
        str, typer.Option(help="note, warning or error: exit 1 from here on.")
    ] = "warning",
    save: Annotated[
        list[Path], typer.Option(help="Write the diagnosis: .html, .json or .sarif. Repeatable.")
    ] = [],  # noqa: B006
) -> int:
    """Say what is wrong with a model's start, and how to mend it."""
    import fanin
    from fanin.cli.batch import read_batch, recipe_for
    from fanin.cli.inputs import read_inputs
    from fanin.cli.target import load_model, load_target
    from fanin.reporting import terminal

    if fail_on not in _ORDER:
        raise unknown_name("severity", fail_on, _ORDER, "fanin check --help")
    for path in save:
        check_writable(path, ".html", ".json", ".sarif")
    model, given = load_model(target)
    inputs, labels = read_batch(data, read_inputs(input, given))
    if recipe is not None:
        fanin.initialize(model, inputs, recipe_for(recipe, labels), seed=seed)
    diagnosis = fanin.check(
        model,
        inputs,
        target=labels,
        loss=load_target(loss) if loss is not None and ":" in loss else loss,
        plan=fanin.Plan.load(plan) if plan else None,
        select=select or None,
        ignore=ignore or None,
        predict=None if predict else False,
    )
    terminal.show_diagnosis(diagnosis)
    for path in save:
        diagnosis.save(path)
        print(f"report: {path}")
    worst = max((_ORDER.index(f.severity) for f in diagnosis.findings), default=-1)
    return int(worst >= _ORDER.index(fail_on))
