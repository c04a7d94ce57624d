"""Plans as YAML files that a person can read, edit and load back."""

import math
import os
import tempfile
from collections.abc import Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from fanin.axes import Axes, dense_axes
from fanin.errors import FaninError, OutputError, PlanError
from fanin.graph.role import Place
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.expectation import expected_std
from fanin.schemes import scheme, scheme_from_json

_FORMAT = 1
_HEADER = """\
# What every parameter gets, and why.  Edit schemes and actions, then load with fanin.Plan.load.
# scheme: a name such as kaiming_normal or normal_0.02, or {scheme: Normal, std: 0.02}.
# action: keep and leave touch nothing.  std is what the scheme comes to; it is computed anew.
"""
_KEYS = {
    "scheme",
    "std",
    "role",
    "reason",
    "evidence",
    "shape",
    "axes",
    "action",
    "tied_to",
    "zero_rows",
    "through",
    "place",
}


def save_plan(plan: Plan, path: str | PathLike[str]) -> None:
    """Write a plan; see ``Plan.save``."""
    target = Path(path)
    if target.suffix == ".html":
        # Reporting stands above planning: reached by name, at the place of saving only.
        page = import_module("fanin.reporting.html").plan_page(plan)
        _write_whole(target, str(page))
        return
    if target.suffix not in {".yaml", ".yml"}:
        raise PlanError(f"{str(target)!r}: a plan is saved as .yaml, .yml or .html.")
    _write_whole(target, plan_to_yaml(plan))


def plan_to_yaml(plan: Plan) -> str:
    """The plan as YAML text."""
    import yaml

    if plan.module_function is not None:
        raise PlanError(
            f"plan {plan.recipe!r} runs a function over the modules, which a file cannot hold. "
            "Keep the function in your code, or plan with a scheme or recipe by name."
        )
    data = {
        "fanin_plan": _FORMAT,
        "recipe": plan.recipe,
        "model": plan.model_type,
        "advice": list(plan.advice),
        "parameters": {name: _entry(assignment) for name, assignment in plan.items()},
    }

    class Dumper(yaml.SafeDumper):
        """Short lists and schemes on one line, everything else on lines of its own."""

    Dumper.add_representer(
        _OnOneLine,
        lambda dumper, value: dumper.represent_mapping(
            "tag:yaml.org,2002:map", value.items(), flow_style=True
        ),
    )
    Dumper.add_representer(
        _ListOnOneLine,
        lambda dumper, value: dumper.represent_sequence(
            "tag:yaml.org,2002:seq", value, flow_style=True
        ),
    )
    text = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    return _HEADER + str(text)


class _OnOneLine(dict[str, Any]):
    """A mapping that YAML shows in braces."""


class _ListOnOneLine(list[Any]):
    """A list that YAML shows in brackets."""


def _flow(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _OnOneLine({key: _flow(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return _ListOnOneLine([_flow(item) for item in value])
    return value


def _entry(assignment: Assignment) -> dict[str, Any]:
    a = assignment
    entry: dict[str, Any] = {}
    if a.action is not Action.INITIALISE:
        entry["action"] = a.action.value
    if a.scheme is not None:
        try:
            entry["scheme"] = _flow(a.scheme.to_json())
        except FaninError as error:
            raise PlanError(f"{a.parameter!r} cannot be written to a plan file: {error}") from error
    if a.std is not None:
        entry["std"] = float(f"{a.std:.6g}")
    if a.tied_to is not None:
        entry["tied_to"] = a.tied_to
    if a.through is not None:
        entry["through"] = a.through
    if a.zero_rows:
        entry["zero_rows"] = _flow(a.zero_rows)
    entry |= {"shape": _flow(a.shape), "axes": _flow(a.axes.to_json()), "role": str(a.role)}
    entry["reason"] = a.reason
    if a.evidence:
        entry["evidence"] = list(a.evidence)
    if a.place is not None:
        told = {"used": a.place.used, "added": a.place.added, "shortcut": a.place.shortcut}
        entry["place"] = _flow({k: v for k, v in told.items() if v is not None and v is not False})
    return entry


def _write_whole(path: Path, text: str) -> None:
    try:
        # In the same folder, so that the rename cannot cross file systems.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fanin-") as folder:
            whole = Path(folder) / path.name
            whole.write_text(text, encoding="utf-8")
            os.replace(whole, path)
    except OSError as error:
        raise OutputError(
            f"cannot write the plan to {str(path)!r}: {error}. Give a path in a folder that "
            "exists and can be written."
        ) from error


def load_plan(path: str | PathLike[str]) -> Plan:
    """Read a plan; see ``Plan.load``."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan {str(path)!r}: {error}.") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        raise PlanError(f"{str(path)!r} is not valid YAML{line}. Mend it by hand.") from error
    return plan_from_data(data, str(path))


def plan_from_data(data: Any, where: str) -> Plan:
    """Build a plan from what its YAML holds; ``where`` names the file in messages."""
    if not isinstance(data, dict) or not isinstance(data.get("parameters"), dict):
        raise PlanError(f"{where!r} is no plan: it has no 'parameters'. Save one with Plan.save.")
    if data.get("fanin_plan") != _FORMAT:
        raise PlanError(
            f"{where!r} has plan format {data.get('fanin_plan')!r}; this fanin reads {_FORMAT}."
        )
    return Plan(
        recipe=str(data.get("recipe", "")),
        model_type=str(data.get("model", "")),
        assignments={
            str(name): _read_entry(str(name), entry, where)
            for name, entry in data["parameters"].items()
        },
        advice=tuple(str(line) for line in data.get("advice") or ()),
    )


def _read_place(used: int, added: int | None = None, shortcut: bool = False) -> Place:
    return Place(int(used), None if added is None else int(added), bool(shortcut))


def _read_entry(name: str, entry: Any, where: str) -> Assignment:
    if not isinstance(entry, dict):
        raise PlanError(f"{where!r}, {name!r}: give a mapping with 'scheme' or 'action'.")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise PlanError(
            f"{where!r}, {name!r}: unknown key {unknown[0]!r}. Known: {', '.join(sorted(_KEYS))}."
        )
    try:
        shape = tuple(int(n) for n in entry.get("shape", ()))
        axes = Axes.from_json(entry["axes"]) if "axes" in entry else dense_axes(shape)
        action = Action(entry.get("action", Action.INITIALISE))
        zero_rows = tuple(int(n) for n in entry.get("zero_rows", ()))
        place = _read_place(**entry["place"]) if "place" in entry else None
        given = entry.get("scheme") if action is Action.INITIALISE else None
        chosen = scheme_from_json(given) if isinstance(given, dict) else given
        if action is Action.INITIALISE:
            if given is None:
                raise PlanError("give a 'scheme', or an 'action' of keep or leave")
            chosen = scheme(chosen)
        std = None if chosen is None else expected_std(chosen, shape, axes, zero_rows)
    except (FaninError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"{where!r}, {name!r}: {str(error).rstrip('.')}.") from error
    return Assignment(
        parameter=name,
        scheme=chosen,
        axes=axes,
        role=str(entry.get("role", "")),
        reason=str(entry.get("reason", "")),
        evidence=tuple(str(line) for line in entry.get("evidence") or ()),
        std=None if std is None or math.isnan(std) else std,
        shape=shape,
        action=action,
        tied_to=entry.get("tied_to"),
        zero_rows=zero_rows,
        through=entry.get("through"),
        place=place,
    )
