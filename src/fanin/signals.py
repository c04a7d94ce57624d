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
    token_correlation: float | None = None
    """Mean cosine between the positions of one sample, for (samples, positions, features)."""
    sensitivity: float | None = None
    """√(Σ_r rms_r² |g_r|²) over its vectors r (rows along the last axis, or whole samples of
    images) and their gradients g: the gradient with respect to the logarithm of each vector's
    scale, which is what is left of a gradient when a norm forgets the scale."""


@dataclass(frozen=True)
class ParameterSignal:
    """A parameter as it stands, and the loss's gradient with respect to it.

    Args:
        name: its (first) name in the model.
        shape: its shape.
        mean, std: over all elements; None for empty or non-float parameters.
        finite: no NaN and no infinity.
        trained: it requires a gradient.
        gradient_rms: None where no gradient was asked for or the loss does not depend on it.
        gradient_finite: no NaN and no infinity in its gradient.
        used: the loss depends on it; None where no backward pass was run.
    """

    name: str
    shape: tuple[int, ...]
    mean: float | None = None
    std: float | None = None
    finite: bool = True
    trained: bool = True
    gradient_rms: float | None = None
    gradient_finite: bool = True
    used: bool | None = None


@dataclass(frozen=True)
class AttentionSignal:
    """How spread one attention's weights are.

    Args:
        tensor: id of the attention weights, or of the output of a fused attention.
        module: path of the module.
        entropy_share: mean over heads and queries of entropy / ln(valid keys); 1 is uniform.
            Queries with fewer than 8 valid keys (early causal rows, narrow windows) are left out.
        keys: largest number of valid keys of a query.
        learned_temperature: a parameter scales the logits (cosine attention).
    """

    tensor: int
    module: str
    entropy_share: float
    keys: int
    learned_temperature: bool = False


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
    observations: int | None = None
    """How many samples (times positions) each unit of ``activated`` was seen on."""


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
    parameters: Mapping[str, ParameterSignal] = field(default_factory=dict)
    """Name -> signal, every parameter once (tied names under the first)."""
    attention: tuple[AttentionSignal, ...] = ()
    loss_name: str = ""
    """``cross_entropy``, ``mse``, …; ``model`` for the model's own; ``cotangent`` for none."""
    loss_error: float | None = None
    """Standard error of ``loss`` over the samples of the batch; None where they are not known."""
    labels: int = 0
    """How many labels ``label_entropy`` was counted from."""
    logits_std: float | None = None
    """Std over the classes, root mean square over samples; None for other losses."""
