"""A study: the same network trained from several recipes, several seeds each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fanin.checking.findings import Finding
from fanin.measuring.signals import Histogram


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


@dataclass(frozen=True)
class Trial:
    """One training run: one model, one recipe, one learning rate, one seed.

    Args:
        model: name of the network within the study.
        recipe: name of the recipe.
        learning_rate: of the optimizer.
        seed: of the weights; the batches and their order are the same in every trial.
        status: "finished", or "diverged" when the loss became NaN or infinite.
        losses: training loss at every step (one longer than steps only if stated in Study).
        accuracies: training-batch accuracy at every step; empty when there are no classes.
        held_out_losses, held_out_accuracies: on data never trained on, at ``held_out_steps``.
        gradient_norms: weight name -> L2 norm of its gradient at every ``gradient_steps``.
        layers: distributions per layer at the start and the end.
        seconds: training time; shared out evenly where many trials trained at once.
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


@dataclass(frozen=True)
class Study:
    """All trials of one comparison and how they were made.

    Args:
        trials: finished trials.
        settings: how to reproduce it: command, models, data, recipes, seeds, steps, batch size,
            optimizer, learning rates, versions of Python, torch and fanin, number of parameters.
        complete: False when it was interrupted; running again goes on from there.
    """

    trials: tuple[Trial, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    complete: bool = True
