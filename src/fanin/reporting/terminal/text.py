"""Text from models and files, made safe for a terminal, and the console that shows it.

rich reads ``[red]`` in a string as markup, and a terminal reads escape characters as commands.
Everything shown goes through ``safe``, which does neither.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def printable(text: str) -> str:
    r"""The text with every control character spelt out: an escape becomes four letters.

    Examples:
        >>> printable("a\x1b[31mb\n")
        'a\\x1b[31mb '
    """
    return "".join(
        character if character.isprintable() else _spelling(character) for character in text
    )


def safe(text: object, style: str = "", *, several_lines: bool = False) -> "Text":
    """Text as it is, whatever brackets and control characters it holds."""
    from rich.text import Text

    lines = str(text).split("\n") if several_lines else [str(text)]
    return Text("\n".join(printable(line) for line in lines), style=style)


def show(*parts: "RenderableType", console: "Console | None" = None) -> None:
    """Print the parts, each on lines of its own; ``console`` defaults to standard output."""
    from rich.console import Console

    console = console or Console(highlight=False)
    for part in parts:
        console.print(part)


def table(*heads: str, numbers: tuple[str, ...] = (), fixed: tuple[str, ...] = ()) -> "Table":
    """A plain table: one rule under the heads, columns in ``numbers`` to the right.

    Args:
        heads: the column heads.
        numbers: heads of the columns of numbers, which never wrap.
        fixed: heads of other columns that never wrap.
    """
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in heads:
        right = head in numbers
        made.add_column(
            head,
            justify="right" if right else "left",
            no_wrap=right or head in fixed,
            overflow="fold",
        )
    return made


def set_name_width(
    made: "Table", names: Iterable[str], console: "Console | None", share: float = 0.4
) -> None:
    """Give the first column the room that its names need, up to a share of the console's width."""
    from rich.console import Console

    longest = max((len(name) for name in names), default=0)
    most = int((console or Console()).width * share)
    # A fixed width, since rich applies a min_width only after it has shared out the room: the
    # table then outgrows the console and the last column's text is cut off.
    made.columns[0].width = min(longest, most)


def _spelling(character: str) -> str:
    if character in "\n\r\t":
        return " "
    return character.encode("unicode_escape").decode("ascii")
