"""``fanin scheme NAME``: formula, use and paper of one scheme."""

from typing import Annotated

import typer


def scheme_command(
    name: Annotated[str, typer.Argument(help="A scheme's name; see `fanin schemes`.")],
) -> None:
    """Explain one scheme."""
    from fanin.reporting import terminal
    from fanin.schemes import scheme

    terminal.show_scheme(name, scheme(name))
