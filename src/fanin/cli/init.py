"""``fanin init``: initialise a model and write its weights."""

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


def init_command(
    target: Target,
    input: Inputs = [],  # noqa: B006 (typer reads the default once)
    data: Batch = None,
    recipe: Recipe = "auto",
    set_: Overrides = [],  # noqa: B006
    keep: Keep = [],  # noqa: B006
    seed: Seed = 0,
    plan: Annotated[
        Path | None, typer.Option(help="Apply a saved plan instead of a recipe.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the weights to this .safetensors file.")
    ] = None,
) -> None:
    """Initialise a model, show the ledger, and write the weights."""
    import fanin
    from fanin.cli.batch import read_batch, recipe_for
    from fanin.cli.inputs import read_inputs
    from fanin.cli.target import load_model
    from fanin.cli.weights import save_weights
    from fanin.reporting import terminal

    check_writable(out)
    model, given = load_model(target)
    if plan is not None:
        ledger = fanin.apply(fanin.Plan.load(plan), model, seed=seed)
    else:
        inputs, labels = read_batch(data, read_inputs(input, given))
        ledger = fanin.initialize(
            model,
            inputs,
            recipe_for(recipe, labels),
            overrides=read_overrides(set_),
            keep=keep,
            seed=seed,
        )
    terminal.show_ledger(ledger)
    if out is not None:
        save_weights(model, out)
        print(f"weights: {out}")
