"""``fanin explain TARGET --at NAME``: why a parameter gets what it gets."""

from typing import Annotated

import typer

from fanin.cli.arguments import Inputs, Keep, Overrides, Recipe, Target, read_overrides


def explain_command(
    target: Target,
    at: Annotated[
        str, typer.Option(help="Name of a parameter, or path of a module for all of its.")
    ],
    input: Inputs = [],  # noqa: B006 (typer reads the default once)
    recipe: Recipe = "auto",
    set_: Overrides = [],  # noqa: B006
    keep: Keep = [],  # noqa: B006
) -> None:
    """Say why a parameter gets what it gets: how it is used, fans, gain, std, predicted scale."""
    from fanin.cli.inputs import read_inputs
    from fanin.cli.target import load_model
    from fanin.planning.explaining import explain
    from fanin.reporting import terminal

    model, given = load_model(target)
    inputs = read_inputs(input, given)
    terminal.show_explanations(
        explain(model, inputs, at, recipe, overrides=read_overrides(set_), keep=keep)
    )
