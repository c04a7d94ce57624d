"""What differs between two plans."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.plan_table import describe_scheme, fold_names, folded, show_std, text_table


@dataclass(frozen=True)
class Change:
    """One parameter that the two plans treat differently; None: not in that plan."""

    parameter: str
    before: Assignment | None
    after: Assignment | None


@dataclass(frozen=True)
class PlanDiff(Sequence[Change]):
    """The differences, in the order of the plans.  False in a condition where there are none."""

    changes: tuple[Change, ...]
    unchanged: int

    def __getitem__(self, index: int) -> Change:  # type: ignore[override]
        return self.changes[index]

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __str__(self) -> str:
        if not self.changes:
            return f"no difference in {self.unchanged} parameters"
        groups: dict[tuple[str, str, str], list[str]] = {}
        for change in self.changes:
            row = (fold_names(change.parameter), _side(change.before), _side(change.after))
            groups.setdefault(row, []).append(change.parameter)
        rows = [
            (name + (f"  ×{len(part)}" if len(part) > 1 else ""), before, after)
            for (_, before, after), names in groups.items()
            for name, part in folded(names, names)
        ]
        table = text_table(("parameter", "this plan", "the other"), rows)
        return f"{table}\n{len(self.changes)} differ, {self.unchanged} are the same"


def diff_plans(before: Plan, after: Plan) -> PlanDiff:
    """Compare what every tensor gets; reasons and evidence do not count."""
    names = list(dict.fromkeys([*before, *after]))
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    changes = tuple(Change(n, a, b) for n, a, b in pairs if _effect(a) != _effect(b))
    return PlanDiff(changes, len(names) - len(changes))


def _effect(assignment: Assignment | None) -> object:
    if assignment is None:
        return None
    a = assignment
    if a.action is not Action.INITIALISE:
        return a.action, a.tied_to
    return a.action, a.scheme, a.axes, a.shape, a.zero_rows, a.through


def _side(assignment: Assignment | None) -> str:
    if assignment is None:
        return "not in it"
    std = f"  std {show_std(assignment.std)}" if assignment.std is not None else ""
    return describe_scheme(assignment) + std
