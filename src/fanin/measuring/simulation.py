"""A few simulated optimiser steps, to see what only looks stuck at the start.

The gradient of LoRA's A, of a branch that ends in zeros, of everything below a zero head is zero
at step 0 and not afterwards.  Equal units whose gradients differ part at once.  Both questions
are answered by taking the steps, on copies: the model itself is never written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from fanin.errors import FaninError, RecordError
from fanin.graph.calling import arguments, leaves
from fanin.graph.guarding import unwritten
from fanin.graph.recording import uncompiled
from fanin.graph.restoring import untouched
from fanin.measuring.losses import Loss, evaluate
from fanin.measuring.statistics import dense

MOST_STEPS = 4
"""A zero head over zero branch ends over zero gates wakes one layer of zeros a step."""
STEP = 0.01
"""The largest relative change of a tensor's RMS in one step."""
_SMALLEST_RMS = 0.01  # stands for the size of tensors that are zero, such as a fresh LoRA B


@dataclass(frozen=True)
class Simulation:
    """What a few steps of gradient descent showed.

    Args:
        woke: parameter -> the step at which its gradient was first not exactly zero (0: at the
            start); None when it was zero at every step, absent when the loss never reaches it.
        gradients: parameter -> its gradient at the step at which it woke; absent when it never did.
        relative: parameter -> RMS of that gradient over the largest such RMS of that step.
        steps: how many were taken.
    """

    woke: Mapping[str, int | None]
    gradients: Mapping[str, torch.Tensor]
    relative: Mapping[str, float]
    steps: int


def simulate(model: nn.Module, inputs: Any, *, target: Any = None, loss: Loss = None) -> Simulation:
    """Take steps of gradient descent on one batch as long as each wakes another parameter.

    One learning rate for all parameters, such that none changes by more than 1 % of its RMS: a
    rate of its own for each (Adam) would blow the rounding errors of vanished gradients up into
    steps and so part units that are equal for good.

    Args:
        model: any module; left exactly as found.
        inputs: as for ``measure``.
        target: as for ``measure``.
        loss: as for ``measure``.
    """
    positional, keyword = arguments(inputs)
    values = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    woke: dict[str, int | None] = {}
    kept: dict[str, torch.Tensor] = {}
    relative: dict[str, float] = {}
    taken = 0
    for step in range(MOST_STEPS):
        moving = {name: value.requires_grad_(True) for name, value in values.items()}
        with (
            torch.inference_mode(mode=False),
            untouched(model),
            unwritten(model, leaves(inputs)),
            uncompiled(),
            torch.enable_grad(),
        ):
            # The same random numbers at every step: dropout must not wake anything.
            try:
                output = functional_call(model, moving, positional, keyword)
            except FaninError:
                raise
            except Exception as error:
                raise RecordError(
                    f"the model ran once, but not with its parameters swapped for copies: {error}. "
                    "Ignore the rules that need simulated steps (FAN105, FAN201, FAN202)."
                ) from error
            value = evaluate(output, target, loss, inputs).value
            gradients = _gradients(value, moving)
        news = _note(woke, gradients, step)
        largest = max((_rms(g) for g in gradients.values() if g is not None), default=0.0)
        for name in news:
            gradient = gradients[name]
            assert gradient is not None
            kept[name] = gradient
            relative[name] = _rms(gradient) / largest if largest > 0 else 0.0
        taken = step
        if not news or all(when is not None for when in woke.values()):
            break
        values = _stepped(values, gradients)
    return Simulation(woke, kept, relative, taken)


def _gradients(
    value: torch.Tensor, parameters: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor | None]:
    if not value.requires_grad or not parameters:
        return dict.fromkeys(parameters)
    found = dense(torch.autograd.grad(value, list(parameters.values()), allow_unused=True))
    return dict(zip(parameters, found, strict=True))


def _note(
    woke: dict[str, int | None], gradients: Mapping[str, torch.Tensor | None], step: int
) -> list[str]:
    """Write down who has a gradient now; return those who have it for the first time."""
    news = []
    for name, gradient in gradients.items():
        if gradient is None or woke.get(name) is not None:
            continue
        alive = bool((gradient != 0).any())
        woke[name] = step if alive else None
        if alive:
            news.append(name)
    return news


def _stepped(
    values: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor | None]
) -> dict[str, torch.Tensor]:
    changes = [
        _rms(gradient) / max(_rms(values[name]), _SMALLEST_RMS)
        for name, gradient in gradients.items()
        if gradient is not None and bool(torch.isfinite(gradient).all())
    ]
    largest = max(changes, default=0.0)
    rate = STEP / largest if largest > 0 else 0.0
    return {
        name: value.detach() if (g := gradients[name]) is None else (value.detach() - rate * g)
        for name, value in values.items()
    }


def _rms(tensor: torch.Tensor) -> float:
    return float(tensor.detach().float().square().mean().sqrt()) if tensor.numel() else 0.0
