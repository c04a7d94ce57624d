"""What every trial of a study shares: data, batches and their order, task, optimizer, looks."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch

from fanin.comparing.dataset import Samples
from fanin.comparing.task import IGNORED_LABEL, Task
from fanin.errors import DataError, unknown_name

MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8

DEFAULT_RATES = {"sgd": (0.003, 0.01, 0.03), "adam": (0.0003, 0.001, 0.003)}
"""From what deep plain nets bear to what shallow ones like; every recipe gets all three."""

HELD_OUT_LOOKS = 10
GRADIENT_LOOKS = 20
HELD_OUT_BATCHES = 4
"""Batches' worth of held-out samples that are looked at together."""

MakeOptimizer = Callable[[Iterable[torch.nn.Parameter], float], torch.optim.Optimizer]


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer by name, or the user's ``function(parameters, learning_rate)``."""

    name: str
    make: MakeOptimizer | None = None

    def build(
        self, parameters: Iterable[torch.nn.Parameter], learning_rate: float
    ) -> torch.optim.Optimizer:
        """PyTorch's optimizer over these parameters."""
        if self.make is not None:
            return self.make(parameters, learning_rate)
        if self.name == "adam":
            return torch.optim.Adam(
                parameters, lr=learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON
            )
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=MOMENTUM)

    @property
    def description(self) -> str:
        """For a person: with its constants."""
        if self.make is None and self.name == "sgd":
            return f"sgd (momentum {MOMENTUM})"
        return self.name


def choose_optimizer(optimizer: str | MakeOptimizer | None) -> OptimizerChoice:
    """The choice that an argument means; None is SGD with momentum.

    Raises:
        UnknownNameError: an unknown name.
        DataError: neither a name nor a function.
    """
    if optimizer is None:
        return OptimizerChoice("sgd")
    if isinstance(optimizer, str):
        if optimizer not in DEFAULT_RATES:
            raise unknown_name("optimizer", optimizer, DEFAULT_RATES, "help(fanin.compare)")
        return OptimizerChoice(optimizer)
    if not callable(optimizer):
        raise DataError(
            f"optimizer: {optimizer!r} is neither a name ({', '.join(DEFAULT_RATES)}) nor a "
            "function of (parameters, learning_rate)."
        )
    return OptimizerChoice(getattr(optimizer, "__qualname__", type(optimizer).__name__), optimizer)


@dataclass(frozen=True)
class Course:
    """The same for every trial.

    Args:
        train, held_out: samples; batches are rows of ``train``.
        batches: row numbers, ``(steps, batch size)``.
        task: the loss and the accuracy.
        optimizer: how weights move.
        held_out_steps: numbers of updates after which the held-out data is looked at.
        gradient_steps: steps at which the norms of gradients are kept.
    """

    train: Samples
    held_out: Samples | None
    batches: torch.Tensor
    task: Task
    optimizer: OptimizerChoice
    held_out_steps: tuple[int, ...] = ()
    gradient_steps: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        """Updates that a trial makes."""
        return len(self.batches)

    def batch(self, step: int) -> Samples:
        """The batch of one step."""
        return self.train.rows(self.batches[step])

    def to(self, device: torch.device) -> "Course":
        """The same course with its data on a device."""
        held_out = None if self.held_out is None else self.held_out.to(device)
        return replace(
            self,
            train=self.train.to(device),
            held_out=held_out,
            batches=self.batches.to(device),
        )

    def held_out_parts(self) -> Iterator[tuple[Samples, float]]:
        """The held-out data in parts of a few batches, each with its share of the labels.

        All at once would need more memory than training does.
        """
        if self.held_out is None:
            return
        size = HELD_OUT_BATCHES * self.batches.shape[1]
        rows = torch.arange(len(self.held_out), device=self.held_out.y.device)
        parts = [self.held_out.rows(rows[i : i + size]) for i in range(0, len(rows), size)]
        weights = [_counted(part.y) for part in parts]
        for part, weight in zip(parts, weights, strict=True):
            yield part, weight / sum(weights)


def _counted(y: torch.Tensor) -> int:
    # Ignored labels enter neither loss nor accuracy; a part without any other would be NaN.
    return y.numel() if y.is_floating_point() else int((y != IGNORED_LABEL).sum())


def evenly_spaced(last: int, looks: int) -> tuple[int, ...]:
    """At most ``looks + 1`` whole numbers from 0 to ``last``, both included."""
    count = min(last, looks)
    return tuple(round(i * last / count) for i in range(count + 1)) if count else (0,)


@dataclass
class Record:
    """What one training run showed; filled while it trains."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    held_out_steps: list[int] = field(default_factory=list)
    held_out_losses: list[float] = field(default_factory=list)
    held_out_accuracies: list[float] = field(default_factory=list)
    gradient_steps: list[int] = field(default_factory=list)
    gradient_norms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def diverged(self) -> bool:
        """The loss has become NaN or infinite."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    def add_step(self, loss: float, accuracy: float | None) -> None:
        """One training step's loss and accuracy."""
        self.losses.append(loss)
        if accuracy is not None:
            self.accuracies.append(accuracy)

    def add_held_out(self, step: int, loss: float, accuracy: float | None) -> None:
        """One look at the held-out data."""
        self.held_out_steps.append(step)
        self.held_out_losses.append(loss)
        if accuracy is not None:
            self.held_out_accuracies.append(accuracy)

    def add_gradients(self, step: int, norms: dict[str, float]) -> None:
        """One look at the gradients."""
        self.gradient_steps.append(step)
        for name, norm in norms.items():
            self.gradient_norms.setdefault(name, []).append(norm)


Tick = Callable[[int], None]
"""Called with the number of trial-steps done since the last call."""
