"""The boxes of a plan's picture as text: name, scheme, std, and the scale that is predicted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fanin.errors import FaninError
from fanin.graph.role import Role
from fanin.planning.assignment import Action, Assignment
from fanin.planning.plan_table import PlanRow, describe_scheme, fold_names
from fanin.reporting.numbers import number
from fanin.reporting.picture.layout import Box
from fanin.signals import LayerSignal

NAME_LENGTH, SCHEME_LENGTH = 29, 38
"""Most characters that fit a box of the picture; the details show the whole."""

TABLES = frozenset({Role.EMBEDDING, Role.POSITION_TABLE, Role.TIED_HEAD, Role.TOKEN})
"""Roles of tensors that are looked up: nothing is summed over their rows."""


@dataclass(frozen=True)
class BoxView:
    """One box as text.

    Args:
        x, y: of its top left corner.
        name, scheme: the two lines in it.
        scale: RMS of its output, short; empty where it is not known.
        tone: what colours it.
        label: all of it in one sentence, for screen readers.
        details: its parameters, one row each, shown on a click.
        signal: RMS of output and gradient in words, for the details.
    """

    x: float
    y: float
    name: str
    scheme: str
    scale: str
    tone: str
    label: str
    details: Sequence[PlanRow]
    signal: str


def box_view(box: Box, signals: Mapping[str, LayerSignal]) -> BoxView:
    """One box as text; ``signals`` maps weight names to what is known of their layers."""
    main = [layer.main for layer in box.layers]
    scheme = describe_scheme(main[0])
    std = stds_of(main)
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
    found = [signals[a.parameter] for a in main if a.parameter in signals]
    outputs = [layer.output_rms for layer in found if layer.output_rms is not None]
    gradients = [layer.gradient_rms for layer in found if layer.gradient_rms is not None]
    scale = f"RMS {number(outputs[0])}" if outputs else ""
    signal = ", ".join(
        f"{word} {range_of(values)}"
        for word, values in (("output RMS", outputs), ("gradient RMS", gradients))
        if values
    )
    return BoxView(
        x=box.x,
        y=box.y,
        name=end_of(name, NAME_LENGTH),
        scheme=_start_of(scheme, SCHEME_LENGTH - len(scale)),
        scale=scale,
        tone=_tone(main[0]),
        label=f"{path}, {main[0].role}: {scheme}{', ' if signal else ''}{signal}",
        details=rows,
        signal=signal,
    )


def stds_of(assignments: Sequence[Assignment]) -> str:
    """The std of the first and of the last of them; a dash for none."""
    return range_of([a.std for a in assignments if a.std is not None])


def range_of(values: Sequence[float]) -> str:
    """``0.02``, or ``0.02 to 0.005`` from the first to the last; a dash for none."""
    if not values:
        return "–"
    first, last = number(values[0]), number(values[-1])
    return first if first == last else f"{first} to {last}"


def gain_of(assignment: Assignment) -> float | None:
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


def end_of(text: str, length: int) -> str:
    """At most ``length`` characters of the end of a name, which says more than its beginning."""
    return text if len(text) <= length else "…" + text[len(text) - length + 1 :]


def _start_of(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
