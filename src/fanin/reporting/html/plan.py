"""The page of a plan: a picture of the model's blocks, and every parameter with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fanin import __version__
from fanin.errors import FaninError
from fanin.graph.role import Role
from fanin.planning.plan import Action, Assignment, Plan
from fanin.planning.plan_table import (
    PlanRow,
    describe_scheme,
    fold_names,
    fold_plan,
    show_shape,
    show_std,
    summary,
)
from fanin.reporting.html.page import render
from fanin.reporting.numbers import number
from fanin.reporting.picture.flow import plan_flow
from fanin.reporting.picture.layout import BOX_HEIGHT, BOX_WIDTH, Box, lay_out

NAME_LENGTH, SCHEME_LENGTH = 29, 38
"""Most characters that fit a box of the picture; the details show the whole."""

TABLES = frozenset({Role.EMBEDDING, Role.POSITION_TABLE, Role.TIED_HEAD, Role.TOKEN})
"""Roles of tensors that are looked up: nothing is summed over their rows."""


@dataclass(frozen=True)
class BoxView:
    """One box as text: ``tone`` colours it, ``details`` are shown on a click."""

    x: float
    y: float
    name: str
    scheme: str
    tone: str
    label: str
    details: Sequence[PlanRow]


def plan_page(plan: Plan) -> str:
    """The plan as one HTML file that needs no network."""
    drawing = lay_out(plan_flow(plan))
    return render(
        "plan.html",
        version=__version__,
        title=f"How {plan.model_type or 'the model'} is initialised",
        plan=plan,
        summary=summary(plan),
        parameters=sum(math.prod(a.shape) for a in plan.values()),
        drawing=drawing,
        shortened=_end_of,
        boxes=[_box(box) for box in drawing.boxes],
        box_width=BOX_WIDTH,
        box_height=BOX_HEIGHT,
        rows=fold_plan(plan),
        describe=describe_scheme,
        show_shape=show_shape,
        show_std=show_std,
        stds=_stds,
        gain=_gain,
    )


def _box(box: Box) -> BoxView:
    main = [layer.main for layer in box.layers]
    scheme = describe_scheme(main[0])
    std = _stds(main)
    if std not in {"–", "0"}:
        scheme = f"{_short(scheme)} · std {std}"
    rows = [
        PlanRow(layers[0].parameter, layers)
        for layers in zip(*(layer.assignments for layer in box.layers), strict=True)
    ]
    path = box.layers[0].path or main[0].parameter
    name = path.removeprefix(f"{box.within}.") if box.within else path
    if len(box.layers) > 1:
        path = fold_names(path)
    return BoxView(
        x=box.x,
        y=box.y,
        name=_end_of(name, NAME_LENGTH),
        scheme=_start_of(scheme, SCHEME_LENGTH),
        tone=_tone(main[0]),
        label=f"{path}, {main[0].role}: {scheme}",
        details=rows,
    )


def _stds(assignments: Sequence[Assignment]) -> str:
    known = [a.std for a in assignments if a.std is not None]
    if not known:
        return "–"
    first, last = number(known[0]), number(known[-1])
    return first if first == last else f"{first} to {last}"


def _gain(assignment: Assignment) -> float | None:
    """Std · √fan_in: the factor on the RMS of what a layer reads; None where nothing is summed."""
    if assignment.std is None or not assignment.axes.inputs or assignment.role in TABLES:
        return None
    try:
        fans = assignment.axes.fans(assignment.shape)
    except FaninError:
        return None  # axes that were edited by hand and do not fit: shown without the factor
    return assignment.std * math.sqrt(fans.fan_in)


def _tone(assignment: Assignment) -> str:
    if assignment.action is not Action.INITIALISE:
        return "untouched"
    if assignment.role in {Role.NORM_SCALE, Role.NORM_BIAS}:
        return "norm"
    if assignment.std == 0 and assignment.axes.inputs:
        return "zero"
    if assignment.role in TABLES:
        return "table"
    return "weight"


def _short(scheme: str) -> str:
    """The class name alone: the arguments are in the details."""
    return scheme.partition("(")[0]


def _end_of(text: str, length: int) -> str:
    return text if len(text) <= length else "…" + text[len(text) - length + 1 :]


def _start_of(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
