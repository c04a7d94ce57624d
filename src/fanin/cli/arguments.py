"""Arguments and options that several commands share, and how their texts are read."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fanin.errors import OutputError, PlanError

Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="path/to/file.py:name or package.module:name.")
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        help='A random input: "float32[8,3,224,224]", "ids=int64[4,128]<50257". Repeatable.',
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="A TARGET that gives (inputs, target), for recipes that measure on a batch.",
    ),
]
Recipe = Annotated[str, typer.Option(help="A recipe or scheme name; see `fanin recipes`.")]
Seed = Annotated[int, typer.Option(help="Seed of the weights.", min=0)]
Overrides = Annotated[
    list[str],
    typer.Option("--set", help='Another scheme for some parameters: "head.*=zeros". Repeatable.'),
]
Keep = Annotated[
    list[str],
    typer.Option(help="Leave parameters that match this pattern as they are. Repeatable."),
]


def read_overrides(texts: list[str]) -> dict[str | type[Any], Any] | None:
    """``["head.*=zeros"]`` -> ``{"head.*": "zeros"}``."""
    overrides: dict[str | type[Any], Any] = {}
    for text in texts:
        pattern, separator, scheme = text.partition("=")
        if not separator or not pattern or not scheme:
            raise PlanError(
                f"--set {text!r} is not of the form PATTERN=SCHEME, as in head.*=zeros."
            )
        overrides[pattern] = scheme
    return overrides or None


def check_writable(path: Path | None, *forms: str) -> None:
    """Raise OutputError before any work is done, not after it, if ``path`` cannot be written.

    ``forms`` are the extensions that it may have; none: any.
    """
    import os

    if path is None:
        return
    if forms and path.suffix.lower() not in forms:
        known = ", ".join(forms)
        raise OutputError(f"{str(path)!r}: unknown extension {path.suffix!r}. Use one of {known}.")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(
            f"cannot write {str(path)!r}: {str(folder)!r} is not a folder. Make it first."
        )
    if path.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: it is a folder. Give a file name.")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise OutputError(f"cannot write {str(path)!r}: permission denied. Choose another place.")
