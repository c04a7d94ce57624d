"""Everything that can be wrong with a study, found before any training starts."""

import copy
import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fanin.comparing.dataset import Samples
from fanin.comparing.networks import Network
from fanin.comparing.recipes import Arm
from fanin.comparing.snapshots import loss_to_measure
from fanin.comparing.task import IGNORED_LABEL, Task, class_axis, prediction
from fanin.errors import DataError
from fanin.filling import apply, initialize
from fanin.graph import call
from fanin.planning import RECIPES, Plan, plan
from fanin.planning.recipe import DataRecipe

Calibrated = MutableMapping[tuple[str, str, int], Plan]
"""Network, recipe and seed -> the plan that a recipe which measures has made for them."""


def initialised(
    network: Network,
    arm: Arm,
    seed: int,
    batch: Samples,
    task: Task,
    calibrated: Calibrated | None = None,
) -> nn.Module:
    """One more network, initialised by a recipe.

    The global generator is seeded too, for recipes that are plain functions and draw from it.
    What a recipe has measured holds for every learning rate, and is measured once.
    """
    model = network.build(seed)
    batch = batch.to(network.device)
    recipe = _for_task(arm.recipe, batch, task)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if not isinstance(recipe, DataRecipe):
            initialize(model, batch.x, recipe, seed=seed)
            return model
        found = {} if calibrated is None else calibrated
        key = (network.name, arm.label, seed)
        if key not in found:
            found[key] = plan(model, batch.x, recipe, seed=seed)
        apply(found[key], model, seed=seed)
    return model


def _for_task(recipe: Any, batch: Samples, task: Task) -> Any:
    """A recipe that measures is told what the study trains for."""
    named = RECIPES[recipe] if isinstance(recipe, str) and recipe in RECIPES else recipe
    if not isinstance(named, DataRecipe):
        return recipe
    return named.with_target(batch.y, loss_to_measure(task))


def check_task(
    network: Network, task: Task, batch: Samples, labels: Mapping[str, torch.Tensor]
) -> tuple[Task, int | None]:
    """Run a network once on a batch, and see that its loss and accuracy can be computed.

    Args:
        network: built afresh.
        task: of the study.
        batch: one batch.
        labels: every target of the study, by what it belongs to.

    Returns:
        The task (without accuracy where a loss of the user's has predictions that are no
        logits), and the number of classes, None without labels.

    Raises:
        DataError: the loss cannot be computed, is no single number, or a label is out of range.
        RecordError: the model raises on these inputs.
    """
    model = network.build(0)
    batch = batch.to(network.device)
    model.eval()
    with torch.no_grad():
        output = call(model, batch.x)
        values = prediction(output)
        if task.function is None and not isinstance(values, torch.Tensor):
            raise DataError(
                f"model {network.name!r} returned {type(values).__name__}, of which {task.name} "
                "cannot be computed. Return a tensor, or pass loss=function(output, target)."
            )
        task, classes = _classes(network, task, values, batch.y)
        if classes is not None and _counts_classes(task):
            for what, y in labels.items():
                check_labels(y, classes, network.name, what)
        if task.function is None and task.name == "mse" and values.shape != batch.y.shape:
            # F.mse_loss would broadcast, and train on nonsense.
            raise DataError(
                f"model {network.name!r} predicts shape {list(values.shape)} and y has "
                f"{list(batch.y.shape)}. Bring them to one shape."
            )
        try:
            loss = task.loss(copy.copy(output), batch.y)
        except Exception as error:
            raise DataError(
                f"loss: {task.name} of model {network.name!r} raised {type(error).__name__}: "
                f"{error}. Pass loss=function(output, target) that fits the model and the data."
            ) from error
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        raise DataError(
            f"loss: {task.name} of model {network.name!r} is not one floating-point number. "
            "Return a scalar tensor."
        )
    return task, classes


def _classes(
    network: Network, task: Task, values: object, y: torch.Tensor
) -> tuple[Task, int | None]:
    if not task.labels:
        return task, None
    try:
        if not isinstance(values, torch.Tensor):
            raise DataError(f"predictions are {type(values).__name__}")
        classes = values.shape[class_axis(values.shape, y)]
    except DataError as error:
        if task.function is not None:
            return replace(task, labels=False), None
        raise DataError(f"model {network.name!r}: {error}") from error
    return task, classes


def _counts_classes(task: Task) -> bool:
    # A function of the user's may use labels of its own numbering; these are known not to.
    plain = (None, torch.nn.functional.cross_entropy)
    return task.function in plain or isinstance(task.function, nn.CrossEntropyLoss)


def check_labels(y: torch.Tensor, classes: int, network: str, what: str) -> None:
    """See that every label names a class.

    Raises:
        DataError: one does not.
    """
    counted = y[y != IGNORED_LABEL]
    if not counted.numel():
        raise DataError(f"{what}: y has no label other than {IGNORED_LABEL}. Give labels.")
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{what}: y goes from {low} to {high}, but model {network!r} has {classes} classes "
            f"(0 … {classes - 1}). Number the labels from 0, or give the model more outputs."
        )


def check_arms(
    network: Network, arms: Sequence[Arm], seed: int, batch: Samples, task: Task
) -> None:
    """See that every recipe can initialise the network: unknown names and misfits end here."""
    for arm in arms:
        initialised(network, arm, seed, batch, task)


def check_rates(rates: Sequence[float]) -> None:
    """See that learning rates are positive numbers, each once.

    Raises:
        DataError: they are not.
    """
    if not rates:
        raise DataError("learning_rates: none given. Give at least one, such as [0.01].")
    for rate in rates:
        if not math.isfinite(rate) or rate <= 0:
            raise DataError(f"learning_rates: {rate} is not a positive number. Give one above 0.")
    if len(set(rates)) < len(rates):
        raise DataError("learning_rates: one occurs twice. Give each once.")
