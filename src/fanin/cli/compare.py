"""``fanin compare``: train the same network from several starts and say which is better."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.arguments import check_writable


def compare_command(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="Models, each path/to/file.py:name; default: a deep ReLU MLP and a small CNN.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="TARGET for (x, y) or ((x, y), (held_out_x, held_out_y)); "
            "default: scikit-learn's digits."
        ),
    ] = None,
    recipes: Annotated[
        str | None, typer.Option(help="Comma-separated, such as torch,kaiming_normal,auto.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds per recipe.", min=1)] = 5,
    learning_rates: Annotated[
        str | None,
        typer.Option("--lr", help="Learning rates, comma-separated: every arm gets each."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.", min=1)] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adam.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the study; finished trials are kept here.")
    ] = Path("fanin-study"),
    report: Annotated[
        Path | None, typer.Option(help="Where the report goes; default: report.html in --out.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Where the numbers go; default: study.json in --out.")
    ] = None,
) -> int:
    """Train the same network from several starts, and write a report that says which is better."""
    import fanin
    from fanin.cli.target import call_target, load_target, model_builder
    from fanin.comparing import prepare_folder
    from fanin.reporting import terminal

    prepare_folder(out)
    report = report or out / "report.html"
    json = json or out / "study.json"
    check_writable(report)
    check_writable(json)
    build = {target.rpartition(":")[2]: model_builder(target) for target in targets or []}
    loaded = load_target(data) if data else None
    study = fanin.compare(
        build or None,
        call_target(data, loaded) if data and callable(loaded) else loaded,
        [name.strip() for name in recipes.split(",")] if recipes else None,
        seeds=seeds,
        learning_rates=_numbers(learning_rates) if learning_rates else None,
        steps=steps,
        optimizer=optimizer,
        out=out,
        command=_command(targets, data, recipes, seeds, learning_rates, steps, optimizer),
    )
    if not study.trials:
        return 130
    terminal.show_study(study)
    study.save(json)
    study.save(report)
    print(f"numbers: {json}")
    print(f"report:  {report}")
    return 0 if study.complete else 130


def _command(
    targets: list[str] | None,
    data: str | None,
    recipes: str | None,
    seeds: int,
    learning_rates: str | None,
    steps: int | None,
    optimizer: str | None,
) -> str:
    """The command that makes this study again, for its report."""
    options = {
        "--data": data,
        "--recipes": recipes,
        "--seeds": None if seeds == 5 else str(seeds),
        "--lr": learning_rates,
        "--steps": None if steps is None else str(steps),
        "--optimizer": optimizer,
    }
    given = [part for name, value in options.items() if value for part in (name, value)]
    return shlex.join(["fanin", "compare", *(targets or []), *given])


def _numbers(text: str) -> list[float]:
    from fanin.errors import DataError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DataError(
            f"--lr {text!r}: give numbers separated by commas, as in 0.01,0.1."
        ) from error
