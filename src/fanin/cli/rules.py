"""``fanin rules``: every rule, one line each."""


def rules_command() -> None:
    """List the rules that `fanin check` runs."""
    from fanin.checking import RULES
    from fanin.reporting import terminal

    terminal.show_rules(RULES)
