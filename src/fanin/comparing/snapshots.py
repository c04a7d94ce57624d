"""What a trial keeps of its layers: histograms of weights, activations and gradients."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fanin.comparing.dataset import Samples
from fanin.comparing.task import Task
from fanin.comparing.trial import LayerSnapshot
from fanin.errors import FaninError
from fanin.measuring.histogram_bins import histogram
from fanin.signals import Histogram, Signals


def weight_histogram(weight: torch.Tensor) -> Histogram:
    """Of the finite values; one empty bin where training has left none."""
    return histogram(weight.detach()) or Histogram((0.0, 0.0), (0,))


def snapshots_at_start(model: nn.Module, batch: Samples, task: Task) -> tuple[LayerSnapshot, ...]:
    """Distributions per weighted layer before training.

    Args:
        model: initialised; left as it was found.
        batch: inputs and targets of one batch.
        task: whose loss makes the gradients.
    """
    from fanin.measuring import measure

    return snapshots_of(
        measure(model, batch.x, target=batch.y, loss=loss_to_measure(task), histograms=True), model
    )


def snapshots_of(signals: Signals, model: nn.Module) -> tuple[LayerSnapshot, ...]:
    """What signals that were measured with histograms show of the weighted layers.

    Args:
        signals: of the model as it stands.
        model: whose weights they are.
    """
    parameters = dict(model.named_parameters())
    return tuple(
        LayerSnapshot(
            weight=layer.weight,
            weight_start=weight_histogram(parameters[layer.weight]),
            weight_end=None,
            activation_start=layer.output_histogram,
            gradient_start=layer.gradient_histogram,
            activation_rms=layer.output_rms,
            gradient_rms=layer.gradient_rms,
        )
        for layer in signals.layers
        if layer.weight in parameters
    )


def weights_at_start(model: nn.Module) -> tuple[LayerSnapshot, ...]:
    """Histograms of the weights alone, for a model whose signals cannot be measured."""
    return tuple(
        LayerSnapshot(name, weight_histogram(p), None, None, None)
        for name, p in model.named_parameters()
        if p.dim() > 1 and p.numel()
    )


def can_be_measured(model: nn.Module, batch: Samples, task: Task) -> str:
    """Empty if signals can be measured, else the reason why not."""
    try:
        snapshots_at_start(model, batch, task)
    except FaninError as error:
        return str(error)
    return ""


def with_ends(layers: Sequence[LayerSnapshot], model: nn.Module) -> tuple[LayerSnapshot, ...]:
    """The same snapshots with the weights as they are after training."""
    parameters = dict(model.named_parameters())
    return tuple(replace(s, weight_end=weight_histogram(parameters[s.weight])) for s in layers)


def loss_to_measure(task: Task) -> Any:
    """The loss argument of ``measure`` and ``check``.

    Left to them where their own default is the same, so that they know the number of classes.
    """
    return None if task.function is None else task.function
