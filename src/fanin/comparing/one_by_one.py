"""Train one network at a time with PyTorch's own optimizers: the plain way, for every model."""

import time
from typing import Any

import torch
from torch import nn

from fanin.comparing.course import Course, Record, Tick
from fanin.comparing.dataset import Samples
from fanin.comparing.task import prediction
from fanin.graph.calling import arguments


def train_one(
    model: nn.Module, learning_rate: float, course: Course, tick: Tick, seed: int = 0
) -> Record:
    """Train ``model`` in place, and return what was seen.

    Training stops at the first loss that is not finite.

    Args:
        model: initialised; left trained, in training mode.
        learning_rate: of the optimizer.
        course: data, batches, task, optimizer.
        tick: told about every step.
        seed: of the global generator, for dropout and the like: the same for every recipe.
    """
    began = time.perf_counter()
    record = Record()
    parameters = [p for p in model.parameters() if p.requires_grad]
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad and p.dim() > 1}
    course = course.to(device_of(model))
    optimizer = course.optimizer.build(parameters, learning_rate)
    model.train()
    # The caller's random numbers go on afterwards as if nothing had been trained.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for step in range(course.steps):
            if step in course.held_out_steps:
                _look_at_held_out(model, course, step, record)
            batch = course.batch(step)
            optimizer.zero_grad(set_to_none=True)
            output = run(model, batch.x)
            loss = course.task.loss(output, batch.y)
            record.add_step(float(loss.detach()), _accuracy(course, output, batch))
            if record.diverged:
                tick(course.steps - step)
                break
            torch.autograd.backward(loss)
            if step in course.gradient_steps:
                norms = {
                    name: 0.0 if w.grad is None else float(w.grad.norm())
                    for name, w in weights.items()
                }
                record.add_gradients(step, norms)
            optimizer.step()
            tick(1)
        else:
            if course.steps in course.held_out_steps:
                _look_at_held_out(model, course, course.steps, record)
    record.seconds = time.perf_counter() - began
    return record


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lives."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def run(model: nn.Module, x: Any) -> Any:
    """Call the model as ``fanin.record`` would: a tensor, a tuple or a dict of arguments."""
    positional, keyword = arguments(x)
    return model(*positional, **keyword)


def _accuracy(course: Course, output: Any, batch: Samples) -> float | None:
    if not course.task.labels:
        return None
    values = prediction(output)
    return float(course.task.correct(values.detach(), batch.y))


def _look_at_held_out(model: nn.Module, course: Course, step: int, record: Record) -> None:
    if course.held_out is None:
        return
    loss, accuracy = 0.0, None
    model.eval()
    try:
        with torch.no_grad():
            for part, weight in course.held_out_parts():
                if weight == 0:
                    continue
                output = run(model, part.x)
                loss += weight * float(course.task.loss(output, part.y))
                share = _accuracy(course, output, part)
                if share is not None:
                    accuracy = (accuracy or 0.0) + weight * share
    finally:
        model.train()
    record.add_held_out(step, loss, accuracy)
