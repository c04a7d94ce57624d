"""A plan and the signals that it leads to, from one run of the model."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from fanin.graph.graph import Graph
from fanin.planning.assignment import Plan
from fanin.planning.planner import AnyRecipe, plan_from
from fanin.propagation.prediction import predict_from
from fanin.propagation.tracing import Trace, trace
from fanin.signals import Signals


class Outlook(NamedTuple):
    """A plan, and what is predicted of a model that starts from it; None without inputs."""

    plan: Plan
    graph: Graph | None
    signals: Signals | None


def plan_and_predict(
    model: nn.Module,
    inputs: Any = None,
    recipe: AnyRecipe = "auto",
    *,
    overrides: Mapping[Any, Any] | None = None,
    keep: Any = (),
    seed: int = 0,
) -> Outlook:
    """``fanin.plan`` and ``fanin.predict`` of that plan; arguments and errors are theirs.

    The model runs once; a recipe that measures runs it as often again as it needs.
    """
    runs: list[Trace] = []

    def run() -> Trace:
        if not runs:
            runs.append(trace(model, inputs, weights=False))
        return runs[0]

    made = plan_from(
        lambda *_: run().graph, model, inputs, recipe, overrides=overrides, keep=keep, seed=seed
    )
    if inputs is None:
        return Outlook(made, None, None)
    return Outlook(made, run().graph, predict_from(run(), model, made))
