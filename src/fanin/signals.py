"""Signals: how large, how alike and how alive the tensors of one run are.

``propagation`` predicts them from the graph alone, ``measuring`` reads them off a batch; rules
and reports take either.  The types stand below both, so that neither depends on the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Histogram:
    """Counts between edges (``len(edges) == len(counts) + 1``) of ``n`` finite values."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TensorSignal:
    """One value of the graph.  None: not defined, or not measured.

    Args:
        tensor: id in the graph.
        operation: name of the ATen operation that made it.
        module: path of the module it was made in.
        shape: its shape.
        mean, rms, std: moments over all elements; rms² is the second moment.
        max_abs: largest absolute finite value.
        finite: no NaN and no infinity.
        zero_share: share of elements that are exactly 0.
        correlation: mean cosine between the samples of the batch, from 0 to 1 for relu nets.
        gradient_rms: RMS of the loss's gradient with respect to it.
        gradient_finite: no NaN and no infinity in that gradient.
        sampled: predicted by running an operation on samples, here or upstream of here.
    """

    tensor: int
    operation: str
    module: str
    shape: tuple[int, ...]
    mean: float | None = None
    rms: float | None = None
    std: float | None = None
    max_abs: float | None = None
    finite: bool = True
    zero_share: float | None = None
    correlation: float | None = None
    gradient_rms: float | None = None
    gradient_finite: bool = True
    sampled: bool = False


@dataclass(frozen=True)
class LayerSignal:
    """One row of the check's table: a layer that holds a weight, in order of running.

    Args:
        weight: name of its weight parameter.
        module: path of its module.
        kind: linear, convolution, …
        shape: of the weight.
        fan_in, fan_out: from the axes.
        weight_mean, weight_std: of the weight as it stands.
        output: id of the tensor that the layer makes (the pre-activation), bias included.
        activation: what it meets next: relu, tanh, …, linear.
        activated: id of the tensor behind that activation; equals ``output`` for linear.
        output_rms: RMS of ``output``.   activated_rms: RMS of ``activated``.
        gradient_rms: RMS of the loss's gradient with respect to ``output``.
        weight_gradient_rms: RMS of the gradient with respect to the weight.
        dead_share: share of units of ``activated`` that are 0 on the whole batch (ReLU family).
        saturated_share: share of elements where the activation's slope is below 0.05.
        output_histogram, gradient_histogram, weight_histogram: for pictures; None unless asked for.
    """

    weight: str
    module: str
    kind: str
    shape: tuple[int, ...]
    fan_in: float
    fan_out: float
    weight_mean: float
    weight_std: float
    output: int
    activation: str
    activated: int
    output_rms: float | None = None
    activated_rms: float | None = None
    gradient_rms: float | None = None
    weight_gradient_rms: float | None = None
    dead_share: float | None = None
    saturated_share: float | None = None
    output_histogram: Histogram | None = None
    gradient_histogram: Histogram | None = None
    weight_histogram: Histogram | None = None


@dataclass(frozen=True)
class Signals:
    """All signals of one run.

    Args:
        source: "measured" or "predicted".
        tensors: tensor id -> its signal.
        layers: rows in order of running.
        loss: the loss on this batch; None where there was no target.
        classes: number of classes that the loss chooses among; None for other losses.
        label_entropy: entropy of the batch's labels in nats; None likewise.
        samples: size of the batch.
    """

    source: str
    tensors: Mapping[int, TensorSignal]
    layers: tuple[LayerSignal, ...]
    loss: float | None = None
    classes: int | None = None
    label_entropy: float | None = None
    samples: int = 0
    notes: tuple[str, ...] = field(default=())
