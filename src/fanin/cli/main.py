"""The ``fanin`` command: gathers the commands and turns every error into one line.

Exit status: 0 fine, 1 findings at or above ``--fail-on``, 2 wrong use, 130 interrupted.
"""

import logging
import sys
from importlib import import_module
from typing import Annotated

import typer

from fanin import __version__
from fanin.errors import FaninError

COMMANDS = (
    "plan",
    "explain",
    "init",
    "check",
    "compare",
    "adopt",
    "rule",
    "rules",
    "scheme",
    "schemes",
    "recipes",
)
"""In the order of ``fanin --help``; each is ``fanin.cli.<name>.<name>_command``."""


def build_app() -> typer.Typer:
    """The typer application with every command on it."""
    app = typer.Typer(
        name="fanin",
        help="Plan, fill, check and compare the initial weights of any PyTorch model.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for name in COMMANDS:
        command = getattr(import_module(f"fanin.cli.{name}"), f"{name}_command")
        app.command(name)(command)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        from fanin.randomness import kernel_in_use

        print(f"fanin {__version__} (kernel: {kernel_in_use()})")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and the fill kernel.",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log what happens; show tracebacks of errors.")
    ] = False,
) -> None:
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("fanin").setLevel(logging.DEBUG)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # Accepted before and after the command's name, since nobody retypes a failed command.
    debug = "--debug" in arguments
    arguments = (["--debug"] if debug else []) + [a for a in arguments if a != "--debug"]
    sys.exit(run(arguments, debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command; the exit status.  Errors become one line on stderr."""
    try:
        status = build_app()(arguments, prog_name="fanin", standalone_mode=False)
    except KeyboardInterrupt:
        return _fail("interrupted.", 130)
    except typer.Abort:
        return _fail("interrupted.", 130)
    except BrokenPipeError:
        # `fanin schemes | head`: the reader has gone; there is nobody to tell.
        sys.stdout = None
        return 0
    except FaninError as error:
        if debug:
            raise
        return _fail(str(error))
    except Exception as error:
        format_message = getattr(error, "format_message", None)  # wrong use, seen by the parser
        if format_message is not None:
            return _fail(f"{format_message()} Try `fanin {_command(arguments)}--help`.")
        if debug:
            raise
        return _fail(
            f"{type(error).__name__}: {error} (not foreseen: run again with --debug and report it)"
        )
    return status if isinstance(status, int) else 0


def _command(arguments: list[str]) -> str:
    named = next((a for a in arguments if a in COMMANDS), None)
    return f"{named} " if named else ""


def _fail(message: str, status: int = 2) -> int:
    one_line = " ".join(message.split())
    print(f"fanin: {one_line}", file=sys.stderr)
    return status
