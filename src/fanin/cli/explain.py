"""``fanin explain TARGET --at NAME``: why a parameter gets what it gets."""

from typing import Annotated

import typer

from fanin.cli.arguments import Batch, Inputs, Keep, Overrides, Recipe, Target, read_overrides


def explain_command(
    target: Target,
    at: Annotated[
        str, typer.Option(help="Name of a parameter, or path of a module for all of its.")
    ],
    input: Inputs = [],  # noqa: B006 (typer reads the default once)
    data: Batch = None,
    recipe: Recipe = "auto",
    set_: Overrides = [],  # noqa: B006
    keep: Keep = [],  # noqa: B006
) -> None:
    """Say why a parameter gets what it gets: how it is used, fans, gain, std, predicted scale."""
    from fanin.cli.batch import read_batch, recipe_for
    from fanin.cli.inputs import read_inputs
    from fanin.cli.target import load_model
    from fanin.planning.explaining import explain
    from fanin.reporting import terminal

    model, given = load_model(target)
    inputs, labels = read_batch(data, read_inputs(input, given))
    chosen = recipe_for(recipe, labels)
    terminal.show_explanations(
        explain(model, inputs, at, chosen, overrides=read_overrides(set_), keep=keep)
    )
