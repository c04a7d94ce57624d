"""Make trials: initialise, look, train together or one by one, look again, keep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from fanin.checking import check
from fanin.checking.findings import Finding
from fanin.comparing.course import Course, Record
from fanin.comparing.dataset import Samples
from fanin.comparing.ensemble import train_together
from fanin.comparing.how_to_train import stack_size, why_one_by_one
from fanin.comparing.networks import Network
from fanin.comparing.one_by_one import train_one
from fanin.comparing.preflight import initialised
from fanin.comparing.recipes import Arm
from fanin.comparing.snapshots import (
    loss_to_measure,
    snapshots_at_start,
    weights_at_start,
    with_ends,
)
from fanin.comparing.trial import DIVERGED, FINISHED, LayerSnapshot, Trial
from fanin.errors import FaninError


@dataclass(frozen=True)
class Wanted:
    """A trial that is to be made."""

    network: Network
    arm: Arm
    learning_rate: float
    seed: int
    checked: bool
    """Whether ``fanin.check`` looks at its initial weights."""

    @property
    def name(self) -> str:
        """For people: part of its file's name."""
        return f"{self.network.name}-{self.arm.label}-lr{self.learning_rate:g}-seed{self.seed}"


@dataclass(frozen=True)
class Start:
    """What was seen of a network before training."""

    layers: tuple[LayerSnapshot, ...]
    findings: tuple[Finding, ...]


Keep = Callable[[Wanted, Trial], None]


@dataclass
class Workshop:
    """Makes the trials of a study.

    Args:
        course: data, batches, task, optimizer.
        engine: how to train: see ``how_to_train.ENGINES``.
        keep: told about every trial as soon as it is finished.
        tick: told about every (network, trial-steps).
    """

    course: Course
    engine: str
    keep: Keep
    tick: Callable[[str, int], None]
    trained: dict[str, str] = field(default_factory=dict)
    """Network -> "together" or "one by one: why"."""
    notes: list[str] = field(default_factory=list)
    _starts: dict[tuple[str, str, int], Start] = field(default_factory=dict)

    def make(self, wanted: Sequence[Wanted]) -> None:
        """Make trials of one network; those that fit are trained at once."""
        network = wanted[0].network
        size = stack_size(network.parameters)
        for start in range(0, len(wanted), size):
            self._make_stack(network, wanted[start : start + size])

    def _make_stack(self, network: Network, wanted: Sequence[Wanted]) -> None:
        models, starts = [], []
        batch = self.course.batch(0, network.device)
        for trial in wanted:
            model = initialised(network, trial.arm, trial.seed, batch)
            models.append(model)
            starts.append(self._start(trial, model, batch))
        how = self._how(network, models)
        if how == "together":
            rates = [t.learning_rate for t in wanted]
            records = train_together(
                models, rates, self.course, lambda n: self.tick(network.name, n)
            )
            for trial, model, record, start in zip(wanted, models, records, starts, strict=True):
                self.keep(trial, _trial(trial, model, record, start, how))
            return
        for trial, model, start in zip(wanted, models, starts, strict=True):
            record = train_one(
                model,
                trial.learning_rate,
                self.course,
                lambda n: self.tick(network.name, n),
                trial.seed,
            )
            self.keep(trial, _trial(trial, model, record, start, how))

    def _how(self, network: Network, models: Sequence[nn.Module]) -> str:
        if network.name not in self.trained:
            pair = models if len(models) > 1 else [*models, *models]
            why = why_one_by_one(pair, self.course, self.engine, network.parameters)
            self.trained[network.name] = f"one by one: {why}" if why else "together"
        return self.trained[network.name]

    def _start(self, trial: Wanted, model: nn.Module, batch: Samples) -> Start:
        # The start does not depend on the learning rate: one look serves the whole grid.
        key = (trial.network.name, trial.arm.label, trial.seed)
        if key not in self._starts:
            self._starts = {k: v for k, v in self._starts.items() if k[2] == trial.seed}
            findings = self._findings(trial, model, batch) if trial.checked else ()
            self._starts[key] = Start(self._layers(trial, model, batch), findings)
        return self._starts[key]

    def _layers(self, trial: Wanted, model: nn.Module, batch: Samples) -> tuple[LayerSnapshot, ...]:
        try:
            return snapshots_at_start(model, batch, self.course.task)
        except FaninError as error:
            self._note(
                f"Activations and gradients of {trial.network.name} could not be measured: {error}"
            )
            return weights_at_start(model)

    def _findings(self, trial: Wanted, model: nn.Module, batch: Samples) -> tuple[Finding, ...]:
        loss = loss_to_measure(self.course.task)
        try:
            return check(model, batch.x, target=batch.y, loss=loss).findings
        except FaninError as error:
            self._note(f"{trial.network.name} could not be checked: {error}")
            return ()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def group_by_seed(wanted: Sequence[Wanted]) -> list[list[Wanted]]:
    """Trials that are made in one go: one network and one seed each, seeds in order.

    Seeds come before networks, so that an interrupted study holds whole pairs of every recipe.
    """
    groups: dict[tuple[int, str], list[Wanted]] = {}
    order: Mapping[int, int] = {s: i for i, s in enumerate(dict.fromkeys(t.seed for t in wanted))}
    for trial in sorted(wanted, key=lambda t: order[t.seed]):
        groups.setdefault((trial.seed, trial.network.name), []).append(trial)
    return list(groups.values())


def _trial(wanted: Wanted, model: nn.Module, record: Record, start: Start, how: str) -> Trial:
    return Trial(
        model=wanted.network.name,
        recipe=wanted.arm.label,
        learning_rate=wanted.learning_rate,
        seed=wanted.seed,
        status=DIVERGED if record.diverged else FINISHED,
        losses=tuple(record.losses),
        accuracies=tuple(record.accuracies),
        held_out_steps=tuple(record.held_out_steps),
        held_out_losses=tuple(record.held_out_losses),
        held_out_accuracies=tuple(record.held_out_accuracies),
        gradient_steps=tuple(record.gradient_steps),
        gradient_norms={n: tuple(v) for n, v in record.gradient_norms.items()},
        layers=with_ends(start.layers, model),
        findings=start.findings,
        seconds=record.seconds,
        trained=how,
    )
