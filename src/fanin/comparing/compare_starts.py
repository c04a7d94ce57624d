"""``fanin.compare``: the same network trained from several starts, and which of them is better."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from fanin.comparing.course import (
    GRADIENT_LOOKS,
    HELD_OUT_LOOKS,
    Course,
    MakeOptimizer,
    choose_optimizer,
    evenly_spaced,
)
from fanin.comparing.dataset import Split, batch_rows, read_data
from fanin.comparing.digits import load_digits
from fanin.comparing.how_to_train import check_engine
from fanin.comparing.networks import Network, read_networks
from fanin.comparing.preflight import check_arms, check_task
from fanin.comparing.progress import Progress, shown_progress
from fanin.comparing.reading import command_of, read_count, read_rates, read_seeds
from fanin.comparing.recipes import Arm, read_recipes
from fanin.comparing.serial import plain
from fanin.comparing.settings import course_identity, describe
from fanin.comparing.storage import DEFAULT_FOLDER, TrialStore, prepare_folder, trial_key
from fanin.comparing.study import Study
from fanin.comparing.task import Loss, task_for
from fanin.comparing.trial import Trial
from fanin.comparing.trials import Wanted, Workshop

DEFAULT_STEPS = 200
DEFAULT_BATCH_SIZE = 64


def compare(
    build: Any = None,
    data: Any = None,
    recipes: Any = None,
    *,
    seeds: int | Iterable[int] = 5,
    learning_rates: float | Iterable[float] | None = None,
    steps: int | None = None,
    optimizer: str | MakeOptimizer | None = None,
    loss: str | Loss | None = None,
    engine: str = "local",
    out: str | os.PathLike[str] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    target_loss: float | None = None,
    progress: bool | None = None,
    command: str | None = None,
) -> Study:
    """Train the same network from several recipes, several seeds each, and compare.

    Every trial sees the same batches in the same order; the seed decides the weights alone.
    Without arguments: a deep ReLU MLP and a small CNN on scikit-learn's digits.

    Ctrl-C keeps every finished trial under ``out`` and returns an incomplete study; calling
    again with the same settings goes on from there.  With other settings the trials that they
    change are made afresh.

    Args:
        build: a function without arguments that returns a model, a model, or a dict name ->
            either for several networks.
        data: ``(x, y)`` tensors or arrays (a fifth is held out), a pair ``(train, held_out)``
            of those, a map-style Dataset, or a function without arguments returning one. ``x``
            may be a tuple of positional or a dict of keyword arguments of the model.
        recipes: a sequence of whatever ``fanin.initialize`` takes, or a dict label -> recipe.
            Recipes that measure do so on the first batch, with its targets where they need some.
        seeds: how many (0, 1, …), or which.
        learning_rates: one, or a grid. Every recipe gets the whole grid, and is shown at its
            best: fewest diverged seeds, then lowest mean final training loss.
        steps: updates of each trial; None for 200.
        optimizer: "sgd" (momentum 0.9), "adam", or a function ``(parameters, learning_rate)``
            returning a PyTorch optimizer.
        loss: "cross_entropy", "mse" or a function ``(output, target)``; None for the one that
            fits the targets' dtype.
        engine: "local" trains networks stacked or one by one, whichever is faster; "together"
            stacks wherever that gives the same result; "one by one" never does.
        out: folder of the finished trials; None for ``./fanin-study``.
        batch_size: samples a step.
        target_loss: the training loss that counts as converged; None for half of what knowing
            nothing costs: ½ ln C, or half the targets' variance.
        progress: False for silence; None for a bar in a terminal and lines elsewhere.
        command: shown in the report as the way to make the study again.

    Raises:
        DataError: data, networks or settings that cannot be trained on.
        UnknownNameError: an unknown recipe, optimizer, loss or engine.
        OutputError: ``out`` cannot be written to.

    Examples:
        >>> import tempfile
        >>> import fanin, torch
        >>> from torch import nn
        >>> x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> def deep():
        ...     hidden = [m for _ in range(12) for m in (nn.Linear(8, 8), nn.ReLU())]
        ...     return nn.Sequential(*hidden, nn.Linear(8, 2))
        >>> study = fanin.compare(
        ...     deep, (x, y), ["torch", "orthogonal", "mirrored"], seeds=3, steps=60,
        ...     learning_rates=0.03, out=tempfile.mkdtemp(), progress=False,
        ... )
        >>> study.summary()["deep"].best, len(study.trials), study.trials[0].trained
        ('mirrored', 9, 'together')
    """
    check_engine(engine)
    chosen_seeds = read_seeds(seeds)
    count = read_count("steps", DEFAULT_STEPS if steps is None else steps)
    size = read_count("batch_size", batch_size)
    choice = choose_optimizer(optimizer)
    rates = read_rates(learning_rates, choice.name)
    arms = read_recipes(recipes)
    split = read_data(load_digits if data is None else data, rows_needed=count * size)
    networks = read_networks(build)
    course = Course(
        train=split.train,
        held_out=split.held_out,
        batches=batch_rows(len(split.train), min(size, len(split.train)), count),
        task=task_for(loss, split.train.y),
        optimizer=choice,
        held_out_steps=evenly_spaced(count, HELD_OUT_LOOKS) if split.held_out else (),
        gradient_steps=evenly_spaced(count - 1, GRADIENT_LOOKS),
    )
    course, classes = _checked(course, networks, arms, split, chosen_seeds[0])
    folder = prepare_folder(DEFAULT_FOLDER if out is None else out)
    targets = {
        n.name: course.task.target_loss(classes[n.name], split.train.y)
        if target_loss is None
        else float(target_loss)
        for n in networks
    }
    run = _Run(course, networks, arms, rates, chosen_seeds, engine, TrialStore(folder))
    complete = run.train(progress)
    settings = describe(
        networks,
        arms,
        split,
        course,
        chosen_seeds,
        rates,
        {t.model: t.trained for t in run.trials()},
        targets,
        classes,
        ", ".join(dict.fromkeys(str(n.device) for n in networks)),
        command or command_of(build, data, recipes),
    )
    settings["notes"] = run.notes
    return Study(run.trials(), settings, complete)


class _Run:
    """One call of ``compare``: which trials there are, and which are still to be made."""

    def __init__(
        self,
        course: Course,
        networks: Sequence[Network],
        arms: Sequence[Arm],
        rates: Sequence[float],
        seeds: Sequence[int],
        engine: str,
        store: TrialStore,
    ) -> None:
        self.course, self.engine, self.store = course, engine, store
        self.wanted = [
            Wanted(network, arm, rate, seed, checked=seed == seeds[0])
            for network in networks
            for arm in arms
            for rate in rates
            for seed in seeds
        ]
        identity = course_identity(course)
        self.keys = {w: trial_key(_identity(w, identity)) for w in self.wanted}
        found = {w: store.load(w.name, self.keys[w]) for w in self.wanted}
        self.done: dict[Wanted, Trial] = {w: t for w, t in found.items() if t is not None}
        self.notes: list[str] = []

    def train(self, progress: bool | None) -> bool:
        """Make what is missing; False if it was interrupted."""
        missing = [w for w in self.wanted if w not in self.done]
        with shown_progress(len(missing) * self.course.steps, progress) as shown:
            self._say_what_is_found(shown, len(missing))
            workshop = Workshop(self.course, self.engine, self._keep, shown.tick)
            self.notes = workshop.notes
            try:
                workshop.make(missing)
            except KeyboardInterrupt:
                text = (
                    f"Interrupted: {len(self.done)} of {len(self.wanted)} trials are finished "
                    f"and kept in {self.store.folder}. Run the same again to go on from there."
                )
                self.notes.append(text)
                shown.message(text)
                return False
        return True

    def trials(self) -> tuple[Trial, ...]:
        """The finished trials, in the study's order."""
        return tuple(self.done[w] for w in self.wanted if w in self.done)

    def _keep(self, wanted: Wanted, trial: Trial) -> None:
        self.store.save(wanted.name, self.keys[wanted], trial)
        self.done[wanted] = trial

    def _say_what_is_found(self, shown: Progress, missing: int) -> None:
        others = self.store.count() - len(self.done)
        if self.done:
            shown.message(
                f"{len(self.done)} of {len(self.wanted)} trials were finished before and are "
                f"taken from {self.store.folder}; {missing} are still to be made."
            )
        elif others > 0:
            shown.message(
                f"{self.store.folder} holds {others} trials of other settings, which stay there; "
                f"this study starts afresh with {missing}."
            )


def _identity(wanted: Wanted, course: dict[str, object]) -> dict[str, object]:
    identity: dict[str, object] = plain(
        {
            **course,
            "network": wanted.network.key,
            "name": wanted.network.name,
            "device": wanted.network.device.type,
            "recipe": wanted.arm.key,
            "label": wanted.arm.label,
            "learning_rate": wanted.learning_rate,
            "seed": wanted.seed,
            "checked": wanted.checked,
        }
    )
    return identity


def _checked(
    course: Course,
    networks: Sequence[Network],
    arms: Sequence[Arm],
    split: Split,
    seed: int,
) -> tuple[Course, dict[str, int | None]]:
    # Before any training: what fails after an hour should have failed now.
    batch = course.train.rows(course.batches[0])
    classes: dict[str, int | None] = {}
    labels = {"data": split.train.y}
    if split.held_out is not None:
        labels["held-out data"] = split.held_out.y
    for network in networks:
        task, classes[network.name] = check_task(network, course.task, batch, labels)
        course = replace(course, task=task)
    for network in networks:
        check_arms(network, arms, seed, batch, course.task)
    return course, classes
