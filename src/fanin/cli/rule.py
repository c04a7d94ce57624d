"""``fanin rule CODE``: what one rule finds, why it is bad, and how to mend it."""

from typing import Annotated

import typer


def rule_command(
    code: Annotated[str, typer.Argument(help="Code or name, as in FAN101; see `fanin rules`.")],
) -> None:
    """Explain one rule."""
    from fanin.checking import find_rule
    from fanin.reporting import terminal

    terminal.show_rule(find_rule(code))
