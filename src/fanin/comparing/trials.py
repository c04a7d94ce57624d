"""Make trials: initialise, look, train together or one by one, look again, keep."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Event, Lock

import torch
from torch import nn

from fanin.checking import check
from fanin.checking.findings import Finding
from fanin.comparing.course import Course, Record, Tick
from fanin.comparing.dataset import Samples
from fanin.comparing.ensemble import train_together
from fanin.comparing.how_to_train import saved_bytes, stack_size, why_one_by_one
from fanin.comparing.networks import Network
from fanin.comparing.one_by_one import train_one
from fanin.comparing.preflight import Calibrated, initialised
from fanin.comparing.recipes import Arm
from fanin.comparing.snapshots import (
    loss_to_measure,
    snapshots_at_start,
    snapshots_of,
    weights_at_start,
    with_ends,
)
from fanin.comparing.trial import DIVERGED, FINISHED, LayerSnapshot, Trial
from fanin.errors import FaninError

TOGETHER = "together"


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


class _Stopped(BaseException):
    """Raised in a worker's training when the study is to end."""


@dataclass
class Workshop:
    """Makes the trials of a study.

    Args:
        course: data, batches, task, optimizer.
        engine: how to train: see ``how_to_train.ENGINES``.
        keep: told about every trial as soon as it is finished.
        tick: told about every trial-step; called from several threads.
    """

    course: Course
    engine: str
    keep: Keep
    tick: Tick
    notes: list[str] = field(default_factory=list)
    _starts: dict[tuple[str, str, int], Start] = field(default_factory=dict)
    _calibrated: Calibrated = field(default_factory=dict)
    _sizes: dict[Network, int] = field(default_factory=dict)
    _stopping: Event = field(default_factory=Event)
    # Building and initialising seed the global generator, so one thread at a time does it.
    _lock: Lock = field(default_factory=Lock)

    def make(self, wanted: Sequence[Wanted]) -> None:
        """Make trials, seed by seed; interrupted, it leaves no thread behind.

        Stacks of networks train in as many threads as torch has, each on one core: matrices this
        small gain nothing from being split over cores, and lose much when a core is busy.
        """
        how = {
            network: self._how(network, [w for w in wanted if w.network is network])
            for network in dict.fromkeys(w.network for w in wanted)
        }
        groups = group_by_seed(wanted)
        self._make_together([g for g in groups if how[g[0].network] == TOGETHER])
        for group in groups:
            if how[group[0].network] != TOGETHER:
                for trial in group:
                    self._make_one(trial, how[trial.network])

    def _make_together(self, groups: Sequence[Sequence[Wanted]]) -> None:
        stacks = [
            group[start : start + size]
            for group in groups
            for size in [self._sizes[group[0].network]]
            for start in range(0, len(group), size)
        ]
        threads = torch.get_num_threads()
        if not stacks:
            return
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(min(threads, len(stacks))) as pool:
                futures = [pool.submit(self._make_stack, stack) for stack in stacks]
                try:
                    for future in as_completed(futures):
                        future.result()
                finally:
                    # Ctrl-C or an error: the others end at their next step.
                    self._stopping.set()
                    pool.shutdown(wait=True, cancel_futures=True)
        finally:
            self._stopping.clear()
            torch.set_num_threads(threads)

    def _make_stack(self, wanted: Sequence[Wanted]) -> None:
        with self._lock:
            built = [self._built(trial) for trial in wanted]

        def tick(steps: int) -> None:
            if self._stopping.is_set():
                raise _Stopped
            self.tick(steps)

        models = [model for model, _ in built]
        records = train_together(models, [t.learning_rate for t in wanted], self.course, tick)
        with self._lock:
            for trial, (model, start), record in zip(wanted, built, records, strict=True):
                self.keep(trial, _trial(trial, model, record, start, TOGETHER))

    def _make_one(self, trial: Wanted, how: str) -> None:
        model, start = self._built(trial)
        record = train_one(
            model,
            trial.learning_rate,
            self.course,
            self.tick,
            trial.seed,
        )
        self.keep(trial, _trial(trial, model, record, start, how))

    def _built(self, trial: Wanted) -> tuple[nn.Module, Start]:
        batch = self.course.batch(0).to(trial.network.device)
        model = self._initialised(trial, batch)
        return model, self._start(trial, model, batch)

    def _initialised(self, trial: Wanted, batch: Samples) -> nn.Module:
        task = self.course.task
        return initialised(trial.network, trial.arm, trial.seed, batch, task, self._calibrated)

    def _how(self, network: Network, wanted: Sequence[Wanted]) -> str:
        batch = self.course.batch(0).to(network.device)
        pair = [wanted[0], wanted[-1]]
        models = [self._initialised(trial, batch) for trial in pair]
        why = why_one_by_one(models, self.course, self.engine, network.parameters)
        if why:
            return f"one by one: {why}"
        self._sizes[network] = stack_size(network.parameters, saved_bytes(models[0], self.course))
        return TOGETHER

    def _start(self, trial: Wanted, model: nn.Module, batch: Samples) -> Start:
        # The start does not depend on the learning rate: one look serves the whole grid.
        key = (trial.network.name, trial.arm.label, trial.seed)
        if key not in self._starts:
            self._starts = {k: v for k, v in self._starts.items() if k[2] == trial.seed}
            checked = self._checked(trial, model, batch) if trial.checked else None
            self._starts[key] = checked or Start(self._layers(trial, model, batch), ())
        return self._starts[key]

    def _layers(self, trial: Wanted, model: nn.Module, batch: Samples) -> tuple[LayerSnapshot, ...]:
        try:
            return snapshots_at_start(model, batch, self.course.task)
        except FaninError as error:
            self._note(
                f"Activations and gradients of {trial.network.name} could not be measured: {error}"
            )
            return weights_at_start(model)

    def _checked(self, trial: Wanted, model: nn.Module, batch: Samples) -> Start | None:
        """Layers and findings from one run of the network; None, and a note, if it failed."""
        loss = loss_to_measure(self.course.task)
        try:
            found = check(model, batch.x, target=batch.y, loss=loss, histograms=True, predict=False)
        except FaninError as error:
            self._note(f"{trial.network.name} could not be checked: {error}")
            return None
        return Start(snapshots_of(found.signals, model), found.findings)

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
