"""Why one parameter gets what it gets: the chain of reasons, with numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

from torch import nn

from fanin.errors import FaninError, unknown_name
from fanin.graph.graph import Graph
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.planning.outlook import plan_and_predict
from fanin.planning.plan_table import describe_scheme, show_shape
from fanin.planning.planner import AnyRecipe
from fanin.propagation.stability import at_second_moment
from fanin.schemes import scheme
from fanin.signals import LayerSignal, Signals

BESIDE = ("torch", "lecun_normal", "xavier_normal", "kaiming_normal")
"""Schemes whose std is shown beside the plan's."""


@dataclass(frozen=True)
class Explanation:
    """Why one parameter gets what it gets.

    Args:
        assignment: what it gets.
        steps: (what is told, how), in the order in which one follows from the other.
        beside: name of another start -> the std that it would give this tensor.
        advice: what weights alone cannot do for this model.
    """

    assignment: Assignment
    steps: tuple[tuple[str, str], ...]
    beside: Mapping[str, float]
    advice: tuple[str, ...] = ()

    def __str__(self) -> str:
        a = self.assignment
        lines = [f"{a.parameter}: {describe_scheme(a)}"]
        lines += [f"  {title}: {text}" for title, text in self.steps]
        if self.beside:
            stds = ", ".join(f"{name} {std:.4g}" for name, std in self.beside.items())
            lines.append(f"  std of other starts: {stds}")
        lines += [f"  advice: {line}" for line in self.advice]
        return "\n".join(lines)


def explain(
    model: nn.Module,
    inputs: Any,
    at: str,
    recipe: AnyRecipe = "auto",
    *,
    overrides: Mapping[Any, Any] | None = None,
    keep: Any = (),
) -> tuple[Explanation, ...]:
    """Why the parameter ``at`` gets what it gets under a recipe; a module's path means all of its.

    The model is left as found and nothing is drawn.

    Args:
        model: any module.
        inputs: as for ``fanin.plan``; None where the recipe needs no graph: no predictions then.
        at: name of a parameter, or path of a module.
        recipe: as for ``fanin.plan``.
        overrides: as for ``fanin.plan``.
        keep: as for ``fanin.plan``.

    Returns:
        One explanation for each parameter meant, in the model's order.

    Raises:
        UnknownNameError: no such parameter or module; the message names the nearest.
        FaninError: whatever ``fanin.plan`` raises.

    Examples:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        >>> (why,) = explain(net, torch.randn(64, 512), "0.weight")
        >>> dict(why.steps)["std"]
        '0.0625 = 1.414 · fan_in^(−½), fan_in 512'
    """
    made, graph, signals = plan_and_predict(model, inputs, recipe, overrides=overrides, keep=keep)
    names = [name for name in made if name == at or name.startswith(f"{at}.") or not at]
    if not names:
        raise unknown_name("parameter", at, tuple(made), "fanin plan")
    return tuple(_explanation(model, made, name, graph, signals) for name in names)


def _explanation(
    model: nn.Module, made: Plan, name: str, graph: Graph | None, signals: Signals | None
) -> Explanation:
    a = made[name]
    owner = made[a.tied_to] if a.tied_to in made and a.tied_to is not None else a
    steps = [("what it is", _what(owner))]
    steps += [("seen", fact) for fact in owner.evidence]
    if owner.axes.inputs:
        steps.append(("fans", _fans(owner)))
    row = _row(owner, signals)
    if row is not None:
        steps += _activation(row)
    steps.append(("decided", a.reason))
    steps += _std(owner)
    if row is not None and signals is not None:
        steps += _predicted(row, signals, graph)
    return Explanation(a, tuple(steps), _beside(model, owner), made.advice)


def _what(a: Assignment) -> str:
    count = prod(a.shape)
    return f"{a.role or 'parameter'}, {show_shape(a.shape)}, {count:,} element{'s' * (count != 1)}"


def _fans(a: Assignment) -> str:
    axes = a.axes
    summed = ", ".join(f"axis {k} of {a.shape[k]}" for k in (*axes.inputs, *axes.receptive))
    text = f"an output sums over {summed}"
    if axes.stride and axes.transposed:
        text += f", stride {'×'.join(map(str, axes.stride))}"
    pieces = axes.blocks(a.shape)
    fans = pieces[0].axes.fans(pieces[0].shape)
    text += f": fan_in {fans.fan_in:g}, fan_out {fans.fan_out:g}"
    if len(pieces) > 1:
        text += f" for each of {len(pieces)} matrices in one tensor"
    if axes.groups > 1:
        text += f", {axes.groups} groups"
    if axes.batch:
        text += f", {prod(a.shape[k] for k in axes.batch)} weights side by side"
    return text


def _std(a: Assignment) -> Iterator[tuple[str, str]]:
    if a.std is None or a.action is not Action.INITIALISE:
        return
    text = f"{a.std:.4g}"
    if a.axes.inputs and a.std > 0:
        piece = a.axes.blocks(a.shape)[0]
        fan_in = piece.axes.fans(piece.shape).fan_in
        text += f" = {a.std * sqrt(fan_in):.4g} · fan_in^(−½), fan_in {fan_in:g}"
    yield "std", text
    if a.zero_rows:
        yield "rows set to zero", ", ".join(map(str, a.zero_rows))


def _row(a: Assignment, signals: Signals | None) -> LayerSignal | None:
    if signals is None:
        return None
    return next((row for row in signals.layers if row.weight == a.parameter), None)


def _activation(row: LayerSignal) -> Iterator[tuple[str, str]]:
    if row.activation in {"", "linear"}:
        yield "meets", "no activation"
        return
    try:
        point = at_second_moment(row.activation)
    except FaninError:
        yield "meets", row.activation
        return
    yield (
        "meets",
        f"{row.activation}: E[φ²] = {1 / point.gain**2:.4g} at unit variance, so that gain "
        f"{point.gain:.4g} keeps it; then a layer changes gradients by χ1 = {point.chi1:.4g} "
        f"and an error of the variance by Q′ = {point.variance_slope:.4g}",
    )


def _predicted(
    row: LayerSignal, signals: Signals, graph: Graph | None
) -> Iterator[tuple[str, str]]:
    rms = _rms_read(row, signals, graph)
    parts = [] if rms is None else [f"reads RMS {rms:.3g}"]
    if row.output_rms is not None:
        parts.append(f"gives RMS {row.output_rms:.3g}")
    if row.activated != row.output and row.activated_rms is not None:
        parts.append(f"{row.activated_rms:.3g} behind {row.activation}")
    if row.gradient_rms is not None:
        parts.append(f"its output's gradient has RMS {row.gradient_rms:.3g} of 1 on the outputs'")
    if parts:
        yield "predicted", ", ".join(parts)


def _rms_read(row: LayerSignal, signals: Signals, graph: Graph | None) -> float | None:
    """RMS of what the operation that first uses the weight reads beside it."""
    if graph is None:
        return None
    for operation in graph.operations:
        owners = [graph.tensors[t].of_parameters for t in operation.inputs]
        if any(row.weight in names for names in owners) and not all(owners):
            read = (t for t, names in zip(operation.inputs, owners, strict=True) if not names)
            return next((signals.tensors[t].rms for t in read if t in signals.tensors), None)
    return None


def _beside(model: nn.Module, a: Assignment) -> dict[str, float]:
    if not a.axes.inputs:
        return {}
    stds: dict[str, float] = {}
    tensor = dict(model.named_parameters(remove_duplicate=False)).get(a.parameter)
    if tensor is not None and not tensor.is_meta and tensor.numel() > 1:
        stds["as it stands"] = float(tensor.detach().float().std())
    for name in BESIDE:
        try:
            stds[name] = (
                scheme("pytorch_default" if name == "torch" else name).expected(a.shape, a.axes).std
            )
        except FaninError:
            continue  # a scheme that cannot draw this tensor is no alternative
    return stds
