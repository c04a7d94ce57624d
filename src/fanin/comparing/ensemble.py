"""Train many copies of one network at once: weights stacked along axis 0, one vmapped forward.

The loss of each network depends on its own weights alone, so the gradient of the sum of losses
is the stack of the networks' gradients: one ordinary backward pass, without functional
transforms of its own, gives all of them.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from fanin.comparing.course import Course, Record, Tick
from fanin.comparing.one_by_one import device_of
from fanin.comparing.stacked_optimizers import STACKED
from fanin.comparing.task import prediction
from fanin.graph.calling import arguments


class Ensemble:
    """Copies of one network with their own weights, run as one.

    Args:
        models: of equal structure, initialised; at least one.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        self.template = models[0]
        stacked, self.buffers = stack_module_state(list(models))
        trainable = {n for n, p in self.template.named_parameters() if p.requires_grad}
        self.parameters = {
            name: value.detach().requires_grad_(name in trainable)
            for name, value in stacked.items()
        }
        self.trainable = {n: p for n, p in self.parameters.items() if n in trainable}
        self.twins = twin_names(self.template)

    def run(self, course: Course, x: Any, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses ``(networks,)`` and predictions ``(networks, batch, …)`` on one batch."""
        positional, keyword = arguments(x)

        def one(
            parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor]
        ) -> tuple[torch.Tensor, torch.Tensor]:
            state = {**parameters, **buffers}
            state.update({twin: state[name] for twin, name in self.twins.items()})
            output = functional_call(self.template, state, positional, keyword, tie_weights=False)
            return course.task.loss(output, y), prediction(output)

        # Random layers raise here, and the caller trains one by one: masks drawn for a whole
        # stack are not those that each network would have drawn alone.
        both: tuple[torch.Tensor, torch.Tensor] = vmap(one, randomness="error")(
            self.parameters, self.buffers
        )
        return both

    def write_back(self) -> None:
        """Put every network's weights and buffers into its own module."""
        with torch.no_grad():
            for index, model in enumerate(self.models):
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.parameters[name][index])
                for name, buffer in model.named_buffers():
                    buffer.copy_(self.buffers[name][index])


def twin_names(model: nn.Module) -> dict[str, str]:
    """Further names of shared tensors -> the first name, where another module holds them.

    A module that hangs in the tree twice is one module, and is left out: replacing its tensors
    under both names, as ``functional_call(tie_weights=True)`` does, loses the originals.
    """
    first: dict[int, str] = {}
    held: set[tuple[int, str]] = set()
    twins: dict[str, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or (id(module), name) in held:
                continue
            held.add((id(module), name))
            full = f"{path}.{name}" if path else name
            if id(tensor) in first:
                twins[full] = first[id(tensor)]
            else:
                first[id(tensor)] = full
    return twins


def train_together(
    models: Sequence[nn.Module],
    learning_rates: Sequence[float],
    course: Course,
    tick: Tick,
) -> list[Record]:
    """Train all ``models`` in place, each at its own rate, and return what was seen of each.

    A network whose loss is no longer finite goes on in the stack, where it costs nothing extra
    and touches no other; its record ends there.

    Args:
        models: initialised, of equal structure; left trained, in training mode.
        learning_rates: one for each.
        course: data, batches, task and an optimizer by name.
        tick: told about every step.
    """
    began = time.perf_counter()
    ensemble = Ensemble(models)
    course = course.to(device_of(ensemble.template))
    rates = torch.tensor(learning_rates, dtype=torch.float64)
    optimizer = STACKED[course.optimizer.name](ensemble.trainable, rates)
    records = [Record() for _ in models]
    ensemble.template.train()
    for step in range(course.steps):
        if step in course.held_out_steps:
            _look_at_held_out(ensemble, course, step, records)
        batch = course.batch(step)
        losses, values = ensemble.run(course, batch.x, batch.y)
        accuracies = _accuracies(course, values.detach(), batch.y)
        for record, loss, accuracy in zip(records, losses.tolist(), accuracies, strict=True):
            if not record.diverged:
                record.add_step(loss, accuracy)
        if all(record.diverged for record in records):
            tick((course.steps - step) * len(models))
            break
        gradients = _gradients(losses, ensemble.trainable)
        if step in course.gradient_steps:
            _keep_gradient_norms(gradients, ensemble.trainable, step, records)
        optimizer.step(gradients)
        tick(len(models))
    else:
        if course.steps in course.held_out_steps:
            _look_at_held_out(ensemble, course, course.steps, records)
    ensemble.write_back()
    for model in models:
        model.train()
    for record in records:
        record.seconds = (time.perf_counter() - began) / len(models)
    return records


def _gradients(
    losses: torch.Tensor, parameters: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


def _accuracies(
    course: Course, values: torch.Tensor, target: torch.Tensor
) -> Sequence[float | None]:
    if not course.task.labels:
        return [None] * len(values)
    shares: list[float] = course.task.correct(values, target).tolist()
    return shares


def _keep_gradient_norms(
    gradients: dict[str, torch.Tensor],
    parameters: dict[str, torch.Tensor],
    step: int,
    records: Sequence[Record],
) -> None:
    norms = {
        # Two axes besides the networks': a weight, as in the one-by-one training.
        name: (
            gradients[name].flatten(1).norm(dim=1).tolist()
            if name in gradients
            else [0.0] * len(records)
        )
        for name, p in parameters.items()
        if p.dim() > 2
    }
    for index, record in enumerate(records):
        if not record.diverged:
            record.add_gradients(step, {name: values[index] for name, values in norms.items()})


def _look_at_held_out(
    ensemble: Ensemble, course: Course, step: int, records: Sequence[Record]
) -> None:
    if course.held_out is None:
        return
    losses: list[float] = [0.0] * len(records)
    accuracies: list[float | None] = [None] * len(records)
    ensemble.template.eval()
    try:
        with torch.no_grad():
            for part, weight in course.held_out_parts():
                if weight == 0:
                    continue
                found, values = ensemble.run(course, part.x, part.y)
                losses = [
                    total + weight * one for total, one in zip(losses, found.tolist(), strict=True)
                ]
                shares = _accuracies(course, values, part.y)
                accuracies = [
                    total if share is None else (total or 0.0) + weight * share
                    for total, share in zip(accuracies, shares, strict=True)
                ]
    finally:
        ensemble.template.train()
    for record, loss, accuracy in zip(records, losses, accuracies, strict=True):
        if not record.diverged:
            record.add_held_out(step, loss, accuracy)
