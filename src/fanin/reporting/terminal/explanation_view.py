"""Why parameters get what they get, in the terminal: one step of the chain a line."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fanin.planning.explaining import Explanation
from fanin.planning.plan_table import describe_scheme
from fanin.reporting.terminal.text import safe, show

if TYPE_CHECKING:
    from rich.console import Console


def show_explanations(
    explanations: Sequence[Explanation], console: "Console | None" = None
) -> None:
    """Print each parameter's chain of reasons, then the advice for the model."""
    from rich.table import Table
    from rich.text import Text

    for explanation in explanations:
        a = explanation.assignment
        chain = Table.grid(padding=(0, 2))
        chain.add_column(no_wrap=True, style="dim")
        chain.add_column(overflow="fold")
        steps = list(explanation.steps)
        if explanation.beside:
            stds = ", ".join(f"{name} {std:.4g}" for name, std in explanation.beside.items())
            steps.append(("std of others", stds))
        for title, text in steps:
            chain.add_row(safe(f"  {title}"), safe(text))
        headline = Text.assemble(safe(a.parameter, "bold"), ": ", safe(describe_scheme(a), "green"))
        show(headline, chain, console=console)
    for line in explanations[0].advice if explanations else ():
        show(Text.assemble(("advice: ", "yellow"), safe(line)), console=console)
