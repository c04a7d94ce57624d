"""``fanin plan``: what every parameter of a model would get, and why."""

from pathlib import Path
from typing import Annotated

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
    from fanin.reporting import save_plan, terminal

    check_writable(save)
    model, given = load_model(target)
    inputs, labels = read_batch(data, read_inputs(input, given))
    made = fanin.plan(
        model,
        inputs,
        recipe_for(recipe, labels),
        overrides=read_overrides(set_),
        keep=keep,
        seed=seed,
    )
    if diff is not None:
        print(made.diff(fanin.Plan.load(diff)))
    else:
        terminal.show_plan(made)
    if save is None:
        return
    if save.suffix == ".html" and inputs is not None:
        save_plan(made, save, signals=fanin.predict(model, inputs, made))
    else:
        made.save(save)
    print(f"plan: {save}")
