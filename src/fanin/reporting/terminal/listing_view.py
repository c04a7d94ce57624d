"""The tables of names in the terminal: schemes, recipes and rules, and one of each explained."""

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fanin.checking.rule import Rule
from fanin.planning.recipe import DataRecipe, Recipe
from fanin.reporting.terminal.text import safe, show, table
from fanin.schemes.scheme import Scheme

if TYPE_CHECKING:
    from rich.console import Console, Group


def show_schemes(schemes: Mapping[str, Scheme], console: "Console | None" = None) -> None:
    """Print every scheme: its names, its value, and the first line of its documentation."""
    from rich.text import Text

    names: dict[str, tuple[Scheme, list[str]]] = {}
    for name, scheme in schemes.items():
        names.setdefault(repr(scheme), (scheme, []))[1].append(name)
    rows = table("name", "what it draws", fixed=("name",))
    for value, (scheme, called) in names.items():
        what = Text.assemble(safe(value, "green"), "\n", safe(_first_line(scheme), "dim"))
        rows.add_row(safe("\n".join(called), "bold", several_lines=True), what)
    numbered = sorted(getattr(schemes, "numbered", {}))
    patterns = ", ".join(f"{stem}_<number>" for stem in numbered)
    more = [safe(f"With a number of your own: {patterns}", "dim")] if numbered else []
    show(rows, *more, console=console)


def show_scheme(name: str, scheme: Scheme, console: "Console | None" = None) -> None:
    """Print one scheme: its value, formula, use and paper, as documented."""
    from rich.text import Text

    headline = Text.assemble(safe(name, "bold"), ": ", safe(repr(scheme), "green"))
    show(headline, Text(""), _document(inspect.getdoc(type(scheme)) or ""), console=console)


def show_recipes(
    recipes: Mapping[str, Recipe | DataRecipe], console: "Console | None" = None
) -> None:
    """Print every recipe: what it does and where it is from."""
    from rich.text import Text

    rows = table("recipe", "what it does", "paper", fixed=("recipe",))
    for name, recipe in recipes.items():
        rows.add_row(safe(name, "bold"), safe(recipe.summary), safe(recipe.paper, "dim"))
    more = "Every scheme is a recipe too: see `fanin schemes`."
    show(rows, Text(more, "dim"), console=console)


def show_rules(rules: Mapping[str, Rule], console: "Console | None" = None) -> None:
    """Print every rule: its code, its name and what it finds."""
    from rich.text import Text

    rows = table("code", "name", "what it finds", fixed=("code", "name"))
    for code, rule in rules.items():
        rows.add_row(safe(code, "bold"), safe(rule.name), safe(rule.summary))
    show(rows, Text("Explain one with `fanin rule CODE`.", "dim"), console=console)


def show_rule(rule: Rule, console: "Console | None" = None) -> None:
    """Print the page of one rule: what it finds, why it is bad, and how to mend it."""
    from rich.markdown import Markdown

    show(Markdown(rule.documentation()), console=console)


def _first_line(value: object) -> str:
    return (inspect.getdoc(type(value)) or "").partition("\n")[0]


def _document(text: str) -> "Group":
    """A docstring with its paragraphs set anew for the width at hand."""
    from rich.console import Group
    from rich.padding import Padding

    lines: list[list[str]] = []
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        above = lines[-1] if lines else []
        # A line goes on with the paragraph above unless a list or a heading separates them; a
        # deeper indent under an argument's name is its continuation.
        joins = (
            bool(above)
            and line.strip() != ""
            and above[0].strip() != ""
            and not above[-1].rstrip().endswith(":")
            and not re.match(r"[A-Z]\w+: ", line)
            and depth == (0 if not above[0].startswith(" ") else 8)
        )
        if joins:
            above.append(line)
        else:
            lines.append([line])
    return Group(
        *(
            Padding(
                safe(" ".join(" ".join(part.split()) for part in paragraph)),
                (0, 0, 0, len(paragraph[0]) - len(paragraph[0].lstrip())),
            )
            for paragraph in lines
        )
    )
