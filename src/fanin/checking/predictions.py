"""What the graph alone says of the layers that a check has measured."""

from collections.abc import Mapping
from typing import NamedTuple

from fanin.signals import LayerSignal, Signals


class PredictedRow(NamedTuple):
    """RMS of a layer's output and of its gradient, as predicted; None: not known."""

    output_rms: float | None
    gradient_rms: float | None


def predicted_rows(measured: Signals, predicted: Signals | None) -> Mapping[str, PredictedRow]:
    """Weight -> prediction, its gradients in the size of the measured loss.

    A prediction knows no target: its gradients start from a direction of unit RMS on the output.
    Backward passes are linear, so that one number turns them into those of the loss; it is read
    off the last layer for which both are known.  Without a target both start alike.
    """
    if predicted is None:
        return {}
    size = _size_of_loss(measured, predicted)
    return {
        row.weight: PredictedRow(
            row.output_rms,
            None if row.gradient_rms is None or size is None else row.gradient_rms * size,
        )
        for row in predicted.layers
    }


def _size_of_loss(measured: Signals, predicted: Signals) -> float | None:
    if measured.loss_name in {"cotangent", "model"}:
        return 1.0
    told: dict[str, LayerSignal] = {row.weight: row for row in predicted.layers}
    for row in reversed(measured.layers):
        other = told.get(row.weight)
        if row.gradient_rms and other is not None and other.gradient_rms:
            return row.gradient_rms / other.gradient_rms
    return None
