"""``fanin adopt``: load what a checkpoint holds, initialise only the rest."""

from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.arguments import Inputs, Recipe, Seed, Target, check_writable


def adopt_command(
    target: Target,
    checkpoint: Annotated[
        Path, typer.Argument(help=".safetensors, its .index.json, or a .pt of tensors.")
    ],
    input: Inputs = [],  # noqa: B006 (typer reads the default once)
    recipe: Recipe = "auto",
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write the weights to this .safetensors file.")
    ] = None,
) -> None:
    """Load a checkpoint into a model and initialise only what it lacks."""
    import fanin
    from fanin.cli.inputs import read_inputs
    from fanin.cli.target import load_model
    from fanin.cli.weights import save_weights
    from fanin.reporting import terminal

    check_writable(out)
    model, given = load_model(target)
    ledger = fanin.adopt(model, checkpoint, read_inputs(input, given), recipe=recipe, seed=seed)
    terminal.show_ledger(ledger)
    if out is not None:
        save_weights(model, out)
        print(f"weights: {out}")
