"""One training run of a study, and the distributions of its layers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fanin.checking.findings import Finding
from fanin.signals import Histogram

FINISHED = "finished"
DIVERGED = "diverged"

FINAL_SHARE = 0.1
"""Share of the steps, at the end, over which the final training loss is averaged."""


def _one_nan(value: float) -> float:
    # Python takes two NaNs for equal in a tuple only if they are one object. With this one, a
    # trial that diverged equals itself read back from its file.
    return math.nan if math.isnan(value) else value


@dataclass(frozen=True)
class LayerSnapshot:
    """Distributions of one weighted layer, at the start and at the end of a trial."""

    weight: str
    weight_start: Histogram
    weight_end: Histogram | None
    activation_start: Histogram | None
    gradient_start: Histogram | None
    activation_rms: float | None = None
    gradient_rms: float | None = None

    def __post_init__(self) -> None:
        for name in ("activation_rms", "gradient_rms"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _one_nan(value))


@dataclass(frozen=True)
class Trial:
    """One training run: one model, one recipe, one learning rate, one seed.

    Args:
        model: name of the network within the study.
        recipe: name of the recipe.
        learning_rate: of the optimizer.
        seed: of the weights; the batches and their order are the same in every trial.
        status: "finished", or "diverged" when the loss became NaN or infinite.
        losses: training loss at every step, before that step's update. A diverged trial ends
            with the first loss that is not finite.
        accuracies: training-batch accuracy at every step; empty when there are no classes.
        held_out_steps: number of updates made before each look at the held-out data.
        held_out_losses, held_out_accuracies: on data never trained on, at ``held_out_steps``.
        gradient_steps: the steps at which gradients were measured.
        gradient_norms: weight name -> L2 norm of its gradient at every ``gradient_steps``.
        layers: distributions per layer at the start and the end.
        findings: of ``fanin.check`` on the initial weights; for the first seed of each recipe.
        seconds: training time; shared out evenly where many trials trained at once.
        trained: "together" with others, or "one by one" and why.
    """

    model: str
    recipe: str
    learning_rate: float
    seed: int
    status: str
    losses: tuple[float, ...]
    accuracies: tuple[float, ...] = ()
    held_out_steps: tuple[int, ...] = ()
    held_out_losses: tuple[float, ...] = ()
    held_out_accuracies: tuple[float, ...] = ()
    gradient_steps: tuple[int, ...] = ()
    gradient_norms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    layers: tuple[LayerSnapshot, ...] = ()
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    trained: str = ""

    def __post_init__(self) -> None:
        for name in ("losses", "accuracies", "held_out_losses", "held_out_accuracies"):
            object.__setattr__(self, name, tuple(map(_one_nan, getattr(self, name))))
        norms = {n: tuple(map(_one_nan, values)) for n, values in self.gradient_norms.items()}
        object.__setattr__(self, "gradient_norms", norms)

    @property
    def diverged(self) -> bool:
        """The loss became NaN or infinite."""
        return self.status == DIVERGED

    @property
    def final_loss(self) -> float:
        """Mean training loss over the last tenth of the steps; infinite if it diverged.

        One step's loss is one batch's: the mean over the last ones is what the run has reached.
        """
        if self.diverged or not self.losses:
            return math.inf
        tail = self.losses[-max(1, int(len(self.losses) * FINAL_SHARE)) :]
        return math.fsum(tail) / len(tail)

    def steps_to(self, target: float) -> int | None:
        """Updates made until the training loss, averaged over five steps, is at most ``target``.

        One easy batch is not convergence: the mean of five steps is. None if it never is.
        """
        window = min(5, len(self.losses))
        for step in range(window - 1, len(self.losses)):
            recent = self.losses[step - window + 1 : step + 1]
            # A NaN compares false, so a diverged end never counts.
            if math.fsum(recent) / window <= target:
                return step
        return None
