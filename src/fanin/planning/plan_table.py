"""A plan as a table in plain text, with repeated blocks folded into one row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar

from fanin.planning.assignment import Action, Assignment, Plan
from fanin.schemes.scaled import Scaled
from fanin.schemes.scheme import Scheme

Item = TypeVar("Item")

_FEWEST_UNNAMED = 4
"""Blocks that are known by a number alone are folded from this many on."""

_MOST_FACTORS = 4
"""Of more factors a table shows how many there are, and their range."""

_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True)
class PlanRow:
    """One row: assignments of repeated blocks that get the same.

    Args:
        name: with ``*`` in the place of the block's number where several are folded.
        assignments: those that it stands for, in the model's order.
    """

    name: str
    assignments: tuple[Assignment, ...]

    @property
    def count(self) -> int:
        """How many parameters the row stands for."""
        return len(self.assignments)


def fold_names(name: str) -> str:
    """A name with ``*`` in the place of every index: ``h.3.attn`` -> ``h.*.attn``."""
    return _INDEX.sub("*", name)


def fold_plan(plan: Plan) -> list[PlanRow]:
    """Rows of a plan: what repeats with the same shape, scheme, std and action is one row."""
    groups: dict[object, list[Assignment]] = {}
    for assignment in plan.values():
        a = assignment
        std = None if a.std is None else f"{a.std:.6g}"
        tied = fold_names(a.tied_to) if a.tied_to else None
        key = (fold_names(a.parameter), a.shape, a.action, repr(a.scheme), std, tied, a.reason)
        groups.setdefault(key, []).append(assignment)
    rows = [
        PlanRow(name, tuple(part))
        for group in groups.values()
        for name, part in folded(group, [a.parameter for a in group])
    ]
    place = {name: index for index, name in enumerate(plan)}
    return sorted(rows, key=lambda row: place[row.assignments[0].parameter])


def folded(items: Sequence[Item], names: Sequence[str]) -> list[tuple[str, Sequence[Item]]]:
    """One row for all items, or a row for each where there are too few to fold.

    The layers of a short ``nn.Sequential`` (``0.weight``, ``2.weight``) are no repeated blocks.
    """
    name = fold_names(names[0])
    if len(items) < (_FEWEST_UNNAMED if name.startswith("*") else 2):
        return [(own, [item]) for own, item in zip(names, items, strict=True)]
    return [(name, items)]


def describe_scheme(assignment: Assignment) -> str:
    """The scheme in one short phrase, or what is done instead."""
    a = assignment
    if a.action is Action.TIED:
        return f"tied to {a.tied_to}"
    if a.action is Action.DERIVED:
        return f"follows from {a.tied_to}"
    if a.scheme is None:
        return {Action.KEEP: "kept", Action.LEAVE: "left"}.get(a.action, str(a.action))
    return short_scheme(a.scheme)


def short_scheme(scheme: Scheme) -> str:
    """``repr`` without the fields that have their default and with five digits, for tables."""
    if isinstance(scheme, Scaled):
        return f"{short_scheme(scheme.of)} × {_show_factor(scheme.factor)}"
    if not is_dataclass(scheme):
        return _cut(repr(scheme))
    shown = [
        f"{f.name}={_cut(repr(getattr(scheme, f.name)))}"
        for f in fields(scheme)
        if getattr(scheme, f.name) != f.default
    ]
    return f"{type(scheme).__name__}({', '.join(shown)})"


def _show_factor(factor: float | tuple[float, ...]) -> str:
    """One number, up to four, or how many there are and their range."""
    if not isinstance(factor, tuple):
        return f"{factor:.4g}"
    if len(factor) <= _MOST_FACTORS:
        return f"({', '.join(f'{f:.4g}' for f in factor)})"
    return f"{len(factor)} factors, {min(factor):.4g} to {max(factor):.4g}"


def _cut(text: str) -> str:
    return re.sub(r"\d+\.\d{6,}(e[-+]?\d+)?", lambda m: f"{float(m.group()):.5g}", text)


def show_std(std: float | None) -> str:
    """Three to four significant digits; a dash for none."""
    return "–" if std is None else f"{std:.4g}"


def show_shape(shape: Sequence[int]) -> str:
    """``512×64``; ``scalar`` without axes."""
    return "×".join(map(str, shape)) or "scalar"


def plan_table(plan: Plan) -> str:
    """The whole plan as text: a headline, one row per parameter or folded block, the advice."""
    rows = [
        (
            row.name + (f"  ×{row.count}" if row.count > 1 else ""),
            show_shape(row.assignments[0].shape),
            describe_scheme(row.assignments[0]),
            show_std(row.assignments[0].std),
            row.assignments[0].reason,
        )
        for row in fold_plan(plan)
    ]
    table = text_table(("parameter", "shape", "scheme", "std", "reason"), rows)
    headline = f"plan {plan.recipe!r} for {plan.model_type}: {summary(plan)}"
    advice = "".join(f"\nadvice: {line}" for line in plan.advice)
    return f"{headline}\n{table}{advice}"


def summary(plan: Plan) -> str:
    """How many parameters are initialised, kept, tied, left."""
    past = {
        Action.INITIALISE: "to initialise",
        Action.KEEP: "kept",
        Action.TIED: "tied",
        Action.DERIVED: "derived",
        Action.LEAVE: "left",
    }
    counts = dict.fromkeys(Action, 0)
    for assignment in plan.values():
        counts[assignment.action] += 1
    parts = [f"{n} {past[action]}" for action, n in counts.items() if n]
    return ", ".join(parts) or "no parameters"


def text_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns; the last one is not padded."""
    widths = [max(len(line[i]) for line in [heads, *rows]) for i in range(len(heads))]
    lines = [list(heads), ["─" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
