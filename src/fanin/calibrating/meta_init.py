"""MetaInit: weight norms at which the gradient changes least along a step."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from fanin.calibrating.factors import Measured, with_factors
from fanin.calibrating.objective import MakeTarget, Objective, finite, scalable
from fanin.calibrating.random_task import random_inputs, random_target
from fanin.calibrating.scratch import Scratch, in_float32
from fanin.calibrating.settings import require_setting
from fanin.measuring.losses import Loss
from fanin.measuring.validating import validate_target
from fanin.planning.assignment import Plan
from fanin.planning.recipe import Base, DataRecipe

EPSILON = 1e-5
"""The paper's ε₀: keeps the quotient finite where a gradient is zero."""
_LEAST = 0.01
"""Share of its first norm below which no weight is taken: a step of the sign has no brake at 0."""


@dataclass(frozen=True, repr=False)
class MetaInit(DataRecipe):
    """Minimise the gradient quotient over the norms of the weights.

    Args:
        target: what the loss compares the output with; without it the batch gives shapes alone,
            and inputs and labels are random, as in the paper.
        loss: as for ``fanin.measure``.
        learning_rate: of the norms.
        momentum: of the signs.
        steps: of signSGD.
        base: the recipe that draws the directions, and the norms to begin with.
    """

    target: Any = field(default=None, compare=False, repr=False)
    loss: Loss = None
    learning_rate: float = 0.1
    momentum: float = 0.9
    steps: int = 500
    base: Base = "kaiming_normal"

    name: ClassVar[str] = "metainit"
    summary: ClassVar[str] = "Weight norms that minimise the gradient quotient."
    paper: ClassVar[str] = (
        "Dauphin & Schoenholz, MetaInit: Initializing learning by learning to initialize, "
        "NeurIPS 2019"
    )
    docs: ClassVar[str] = """\
The gradient quotient GQ = mean |(g − Hg)/(g + ε) − 1| over all parameters says by how much, in its
own units, the gradient g would change along one step of gradient descent; H is the Hessian, ε
has the sign of g and size 1e-5. It is minimised over the norm of every weight of two or more axes
by signSGD with momentum (rate 0.1, momentum 0.9, 500 steps), from He's start. No norm falls below
1 % of its first value, and the norms with the lowest quotient seen are kept. Biases and norm
scales keep their start.

As in the paper no data is needed: the batch gives the shapes, its floating tensors become N(0, 1)
anew at every step, and the labels are random. With `target=` the batch itself is used. Every
operation must have a second derivative.

Settings: `fanin.recipes.MetaInit(target=y, loss="mse", learning_rate=0.1, momentum=0.9, steps=500,
base="kaiming_normal")`."""

    def __post_init__(self) -> None:
        require_setting(self, "learning_rate", self.learning_rate, above=0)
        require_setting(self, "momentum", self.momentum, above=-1)
        require_setting(self, "steps", self.steps, above=0, whole=True)

    def with_target(self, target: Any, loss: Any) -> "MetaInit":
        """The same; for a regression or a loss of the user's, with that task in view."""
        from dataclasses import replace

        if self.target is not None or self.loss is not None:
            return self
        if callable(loss):
            return replace(self, target=target, loss=loss)
        regression = isinstance(target, torch.Tensor) and target.is_floating_point()
        return replace(self, loss=loss or "mse") if regression else self

    def calibrate(
        self, plan: Plan, model: nn.Module, inputs: Any, free: Collection[str], seed: int
    ) -> Plan:
        """Draw, then step the norms against the sign of the quotient's gradient."""
        validate_target(self.target)
        scratch = Scratch(plan, model, inputs, seed)
        matrices = [n for n in plan if n in set(free) and sum(s > 1 for s in plan[n].shape) > 1]
        holders = scalable(scratch, matrices)
        objective = Objective(scratch, self.name, self.loss)
        holders = {n: h for n, h in holders.items() if h in objective.start}
        if not holders:
            return with_factors(plan, {}, ("metainit: no free weight to scale",), inputs, seed)
        with scratch.running(), torch.enable_grad():
            found = _descend(self, objective, list(holders.values()), seed)
        scales = dict(zip(holders, found.scales, strict=True))
        reasons = {
            name: Measured(
                f"MetaInit: norm {_norm(objective, holder):.3g} × {scales[name]:.3g}, for the "
                "gradient quotient",
                scales[name],
            )
            for name, holder in holders.items()
        }
        note = (
            f"MetaInit: gradient quotient {found.before:.4g} at the start, {found.after:.4g} after "
            f"{found.at} of {self.steps} steps"
        )
        return with_factors(plan, reasons, (note,), inputs, seed)


RECIPE = MetaInit()


@dataclass(frozen=True)
class _Found:
    scales: Sequence[float]
    before: float
    after: float
    at: int


def _norm(objective: Objective, name: str) -> float:
    return float(objective.start[name].norm())


def _descend(recipe: MetaInit, objective: Objective, names: Sequence[str], seed: int) -> _Found:
    first = [_norm(objective, name) for name in names]
    norms, memory = list(first), [0.0] * len(names)
    generator = torch.Generator().manual_seed(seed & (2**63 - 1))
    best = _Found([1.0] * len(names), math.inf, math.inf, 0)
    for step in range(recipe.steps + 1):
        now = [norm / start for norm, start in zip(norms, first, strict=True)]
        inputs, target = _task(recipe, objective, generator)
        scales = {n: torch.tensor(s, requires_grad=True) for n, s in zip(names, now, strict=True)}
        value = gradient_quotient(objective, objective.scaled(scales), inputs, target)
        quotient = float(value.detach())
        if step == 0:
            finite(value, "the gradient quotient", recipe.name)
            best = _Found(now, quotient, quotient, 0)
        elif quotient < best.after:
            best = _Found(now, best.before, quotient, step)
        if step == recipe.steps:
            break
        slopes = objective.plain_gradients(value, list(scales.values()))
        for i, slope in enumerate(slopes):
            sign = math.copysign(1.0, float(slope)) if float(slope) else 0.0
            memory[i] = recipe.momentum * memory[i] - recipe.learning_rate * sign
            norms[i] = max(norms[i] + memory[i], _LEAST * first[i])
    return best


def _task(
    recipe: MetaInit, objective: Objective, generator: torch.Generator
) -> tuple[Any, Any | MakeTarget]:
    inputs = objective.scratch.inputs
    if recipe.target is not None:
        return inputs, in_float32(recipe.target)
    made = random_inputs(inputs, generator)
    return made, lambda output: random_target(output, recipe.loss, generator)


def gradient_quotient(
    objective: Objective, values: dict[str, torch.Tensor], inputs: Any, target: Any
) -> torch.Tensor:
    """Mean over all parameters of |(g − Hg)/(g + ε) − 1|, with ε of the sign of g.

    Hg is the gradient of ½‖g‖², so that three derivatives of the loss give the gradient of this.
    """
    wanted = [v if v.requires_grad else v.requires_grad_(True) for v in values.values()]
    loss = objective.loss(dict(zip(values, wanted, strict=True)), inputs, target)
    gradient = objective.gradients(loss, wanted)
    half_square = torch.stack([g.square().sum() for g in gradient]).sum() / 2
    product = objective.gradients(half_square, wanted)
    total = torch.zeros(())
    for g, h in zip(gradient, product, strict=True):
        epsilon = torch.where(g >= 0, EPSILON, -EPSILON).detach()
        total = total.to(g.device) + ((g - h) / (g + epsilon) - 1).abs().sum()
    return total / sum(v.numel() for v in wanted)
