"""A plan in the terminal: one row per parameter, repeated blocks folded."""

from typing import TYPE_CHECKING

from fanin.planning.assignment import Plan
from fanin.planning.plan_table import describe_scheme, fold_plan, show_shape, show_std, summary
from fanin.reporting.terminal.text import safe, set_name_width, show, table

if TYPE_CHECKING:
    from rich.console import Console


def show_plan(plan: Plan, console: "Console | None" = None) -> None:
    """Print a plan: what every parameter gets, and why."""
    from rich.text import Text

    rows = table("parameter", "shape", "std", "scheme, and why", numbers=("std",))
    folded = fold_plan(plan)
    set_name_width(rows, (f"{row.name} ×{row.count}" for row in folded), console)
    for row in folded:
        first = row.assignments[0]
        name = safe(row.name)
        if row.count > 1:
            name.append(f" ×{row.count}", style="bold cyan")
        what = Text.assemble(safe(describe_scheme(first), "green"), "\n", safe(first.reason, "dim"))
        rows.add_row(name, show_shape(first.shape), show_std(first.std), what)
    headline = Text.assemble(
        ("plan ", "bold"), safe(plan.recipe, "bold"), " for ", safe(plan.model_type)
    )
    headline.append(f": {summary(plan)}")
    show(
        headline,
        rows,
        *(safe(f"advice: {line}", "yellow") for line in plan.advice),
        console=console,
    )
