"""``fanin schemes``: every scheme, one line each."""


def schemes_command() -> None:
    """List the schemes: how one tensor can be drawn."""
    from fanin.reporting import terminal
    from fanin.schemes import SCHEMES

    terminal.show_schemes(SCHEMES)
