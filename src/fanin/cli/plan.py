"""``fanin plan``: what every parameter of a model would get, and why."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fanin.cli.arguments import (
    Batch,
    Inputs,
    Keep,
    Overrides,
    Recipe,
    Seed,
    Target,
    check_writable,
    read_overrides,
)


def plan_command(
    target: Target,
    input: Inputs = [],  # noqa: B006 (typer reads the default once)
    data: Batch = None,
    recipe: Recipe = "auto",
    set_: Overrides = [],  # noqa: B006
    keep: Keep = [],  # noqa: B006
    seed: Seed = 0,
    save: Annotated[
        Path | None,
        typer.Option(help="Write the plan: .yaml to edit and load back, .html to read."),
    ] = None,
    diff: Annotated[
        Path | None, typer.Option(help="Show how this plan differs from a saved one.")
    ] = None,
) -> None:
    """Show what every parameter of a model gets, and why.  The model is not changed."""
    import fanin
    from fanin.cli.batch import read_batch, recipe_for
    from fanin.cli.inputs import read_inputs
    from fanin.cli.target import load_model
    from fanin.planning.outlook import plan_and_predict
    from fanin.reporting import save_plan, terminal

    check_writable(save, ".yaml", ".yml", ".html")
    model, given = load_model(target)
    inputs, labels = read_batch(data, read_inputs(input, given))
    shown = save is not None and save.suffix == ".html"
    choices: Any = {"overrides": read_overrides(set_), "keep": keep, "seed": seed}
    chosen, signals = recipe_for(recipe, labels), None
    if shown:
        made, _, signals = plan_and_predict(model, inputs, chosen, **choices)
    else:
        made = fanin.plan(model, inputs, chosen, **choices)
    if diff is not None:
        print(made.diff(fanin.Plan.load(diff)))
    else:
        terminal.show_plan(made)
    if save is None:
        return
    if signals is not None:
        save_plan(made, save, signals=signals)
    else:
        made.save(save)
    print(f"plan: {save}")
