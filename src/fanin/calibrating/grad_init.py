"""GradInit: scales at which one step of the optimizer lowers the loss most."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from fanin.calibrating.factors import Measured, with_factors
from fanin.calibrating.objective import Objective, finite, scalable
from fanin.calibrating.scratch import Scratch, in_float32
from fanin.calibrating.settings import require_setting
from fanin.errors import PlanError
from fanin.measuring.losses import Loss
from fanin.measuring.validating import batch_size, validate_target
from fanin.planning.assignment import Plan
from fanin.planning.recipe import Base, DataRecipe

_FEWEST_ROWS = 6  # below, thirds of a batch say little
_OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True, repr=False)
class GradInit(DataRecipe):
    """Learn one scale per tensor such that the first step of training lowers the loss most.

    Args:
        target: what the loss compares the output with; not needed for a model that returns its
            own ``loss``.
        loss: as for ``fanin.measure``.
        optimizer: whose first step is foreseen: "sgd", g itself, or "adam", the sign of g.
        learning_rate: η, of that step; None for 0.1 (sgd) or 1e-3 (adam).
        gradient_bound: γ, on the gradient's norm: Euclidean for sgd, the sum of sizes for adam.
        scale_rate: τ, Adam's rate for the scales.
        steps: how often the scales are changed.
        least: α, below which no scale falls.
        base: the recipe that draws the numbers.
    """

    target: Any = field(default=None, compare=False, repr=False)
    loss: Loss = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float | None = None
    gradient_bound: float = 1.0
    scale_rate: float = 1e-2
    steps: int = 390
    least: float = 0.01
    base: Base = "kaiming_normal"

    name: ClassVar[str] = "gradinit"
    summary: ClassVar[str] = "One scale per tensor, learnt to lower the loss most in one step."
    paper: ClassVar[str] = (
        "Zhu et al., GradInit: Learning to Initialize Neural Networks for Stable and Efficient "
        "Training, NeurIPS 2021"
    )
    docs: ClassVar[str] = """\
Every tensor that the base recipe draws, norm scales included, gets a scale m. Where the gradient's
norm is above γ, the scales step down that norm; else they step down the loss that one step of the
optimizer leads to, L(θ − η·A[g]) with A[g] = g for SGD and sign(g) for Adam. The step itself is
held constant while the scales are differentiated, as in the authors' code. The scales move by Adam
with rate τ = 0.01 and stay above 0.01. If the batch has rows to spare, the gradient is taken on one
random two thirds of it and the loss on another, half of which is new.

It needs the target: `fanin.recipes.GradInit(target=y)`; `fanin.compare` and the command line's
`--data` give theirs. Every operation must have a second derivative.

Settings: `fanin.recipes.GradInit(target=y, loss="mse", optimizer="sgd", learning_rate=0.1,
gradient_bound=1.0, scale_rate=0.01, steps=390, least=0.01, base="kaiming_normal")`."""

    def __post_init__(self) -> None:
        if self.optimizer not in _OPTIMIZERS:
            raise PlanError(f"GradInit: optimizer={self.optimizer!r} is neither 'sgd' nor 'adam'.")
        if self.learning_rate is not None:
            require_setting(self, "learning_rate", self.learning_rate, above=0)
        for name in ("gradient_bound", "scale_rate", "least"):
            require_setting(self, name, getattr(self, name), above=0)
        require_setting(self, "steps", self.steps, above=0, whole=True)

    def with_target(self, target: Any, loss: Any) -> "GradInit":
        """The same, for this target where it has none."""
        if self.target is not None:
            return self
        return replace(self, target=target, loss=self.loss if self.loss is not None else loss)

    @property
    def step_size(self) -> float:
        """η."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.1 if self.optimizer == "sgd" else 1e-3

    def calibrate(
        self, plan: Plan, model: nn.Module, inputs: Any, free: Collection[str], seed: int
    ) -> Plan:
        """Draw, then learn the scales."""
        validate_target(self.target)
        scratch = Scratch(plan, model, inputs, seed)
        objective = Objective(scratch, self.name, self.loss)
        wanted = [n for n in plan if n in set(free)]
        holders = {n: h for n, h in scalable(scratch, wanted).items() if h in objective.start}
        if not holders:
            return with_factors(plan, {}, ("gradinit: no free tensor to scale",), inputs, seed)
        learner = _Learner(self, objective, list(holders.values()), seed)
        with scratch.running(), torch.enable_grad():
            before = learner.look()
            learner.learn()
            after = learner.look()
        scales = dict(zip(holders, learner.numbers(), strict=True))
        step = f"one step of {self.optimizer} at {self.step_size:g}"
        found = {
            name: Measured(f"GradInit: × {scale:.3g}, learnt for {step}", scale)
            for name, scale in scales.items()
        }
        note = (
            f"GradInit: loss after {step} {before.stepped:.4g} at the start, {after.stepped:.4g} "
            f"with the scales; gradient norm {before.norm:.3g}, then {after.norm:.3g} "
            f"(bound {self.gradient_bound:g})"
        )
        return with_factors(plan, found, (note,), inputs, seed)


RECIPE = GradInit()


@dataclass(frozen=True)
class Look:
    """What one step leads to: loss before and after it, and the norm of the gradient."""

    loss: float
    stepped: float
    norm: float


class _Learner:
    """The scales, and Adam's moments of them."""

    def __init__(
        self, recipe: GradInit, objective: Objective, names: Sequence[str], seed: int
    ) -> None:
        self.recipe, self.objective, self.names = recipe, objective, names
        self.inputs, self.target = objective.scratch.inputs, in_float32(recipe.target)
        device = objective.start[names[0]].device
        self.scales = [torch.ones((), device=device, requires_grad=True) for _ in names]
        self.adam = torch.optim.Adam(self.scales, lr=recipe.scale_rate)
        self.generator = torch.Generator().manual_seed(seed & (2**63 - 1))
        self.rows = _common_rows(self.inputs, self.target)

    def numbers(self) -> list[float]:
        """The scales as they stand."""
        return [float(scale.detach()) for scale in self.scales]

    def look(self) -> Look:
        """Loss, loss after one step and gradient norm on the whole batch."""
        values = self._values()
        loss, gradient = self._gradient(values, self.inputs, self.target)
        stepped = self._stepped(values, gradient, self.inputs, self.target)
        finite(loss, "the loss", self.recipe.name)
        return Look(
            float(loss.detach()), float(stepped.detach()), float(self._norm(gradient).detach())
        )

    def learn(self) -> None:
        """The paper's algorithm."""
        for _ in range(self.recipe.steps):
            (first, first_target), (second, second_target) = self._halves()
            values = self._values()
            _, gradient = self._gradient(values, first, first_target)
            norm = self._norm(gradient)
            above = float(norm.detach()) > self.recipe.gradient_bound
            goal = norm if above else self._stepped(values, gradient, second, second_target)
            slopes = self.objective.plain_gradients(goal, self.scales)
            if not all(bool(slope.isfinite()) for slope in slopes):
                finite(torch.stack(slopes).sum(), "the gradient of the scales", self.recipe.name)
            for scale, slope in zip(self.scales, slopes, strict=True):
                scale.grad = slope
            self.adam.step()
            with torch.no_grad():
                for scale in self.scales:
                    scale.clamp_(min=self.recipe.least)

    def _values(self) -> dict[str, torch.Tensor]:
        scaled = self.objective.scaled(dict(zip(self.names, self.scales, strict=True)))
        return {n: v if v.requires_grad else v.requires_grad_(True) for n, v in scaled.items()}

    def _gradient(
        self, values: Mapping[str, torch.Tensor], inputs: Any, target: Any
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        loss = self.objective.loss(values, inputs, target)
        return loss, self.objective.gradients(loss, list(values.values()))

    def _norm(self, gradient: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.recipe.optimizer == "adam":
            return torch.stack([g.abs().sum() for g in gradient]).sum()
        return torch.stack([g.square().sum() for g in gradient]).sum().sqrt()

    def _stepped(
        self,
        values: Mapping[str, torch.Tensor],
        gradient: Sequence[torch.Tensor],
        inputs: Any,
        target: Any,
    ) -> torch.Tensor:
        """The loss after one step; the step is a constant."""
        moved = {}
        for (name, value), g in zip(values.items(), gradient, strict=True):
            step = g.detach().sign() if self.recipe.optimizer == "adam" else g.detach()
            moved[name] = value - self.recipe.step_size * step
        return self.objective.loss(moved, inputs, target)

    def _halves(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Two thirds of the batch, and two thirds that share half with them."""
        if self.rows < _FEWEST_ROWS:
            return (self.inputs, self.target), (self.inputs, self.target)
        order = torch.randperm(self.rows, generator=self.generator)
        third = self.rows // 3
        first, second = order[: 2 * third], torch.cat([order[:third], order[2 * third :]])
        return self._rows(first), self._rows(second)

    def _rows(self, rows: torch.Tensor) -> tuple[Any, Any]:
        return _taken(self.inputs, rows), _taken(self.target, rows)


def _common_rows(inputs: Any, target: Any) -> int:
    """Samples that can be taken apart: the first axis of every tensor; 0 where it differs."""
    rows = batch_size(inputs)
    fits = all(t.dim() and t.shape[0] == rows for t in _tensors((inputs, target)))
    return rows if fits else 0


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in _tensors(item)]
    if isinstance(value, tuple | list):
        return [t for item in value for t in _tensors(item)]
    return []


def _taken(value: Any, rows: torch.Tensor) -> Any:
    if isinstance(value, torch.Tensor):
        return value[rows.to(value.device)]
    if isinstance(value, Mapping):
        return {key: _taken(item, rows) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_taken(item, rows) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(_taken(item, rows) for item in value)
    return value
