"""The loss that a batch is measured with: given, guessed from the target, or a fixed cotangent."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from fanin.errors import DataError, unknown_name
from fanin.graph.calling import describe, leaves
from fanin.propagation.cotangent import direction

Loss = str | Callable[[Any, Any], torch.Tensor] | None

IGNORED_CLASS = -100  # torch's ignore_index: positions with this label enter no loss
_NOT_MAIN = ("past_key_values", "hidden_states", "attentions", "cross_attentions", "loss")


@dataclass(frozen=True)
class LossValue:
    """A loss with its graph, and what is known about it.

    Args:
        value: scalar to differentiate.
        name: ``cross_entropy``, ``mse``, …; ``model``; ``cotangent`` when nothing was given.
        classes, label_entropy: for losses that choose among classes.
        error: standard error of the mean over samples; None where they are not known.
        logits: (samples, classes), detached; None where there are none.
        labels: how many labels the entropy was counted from.
    """

    value: torch.Tensor
    name: str
    classes: int | None = None
    label_entropy: float | None = None
    error: float | None = None
    logits: torch.Tensor | None = None
    labels: int = 0


def evaluate(output: Any, target: Any, loss: Loss, inputs: Any) -> LossValue:
    """The loss of a model's output.

    In this order: ``loss`` when given (a callable ``loss(output, target)`` or a name); the
    model's own ``.loss`` when there is no target; else by the target: integer classes →
    cross-entropy with the class axis where the shapes put it (next to the batch as in PyTorch,
    or last as for tokens: targets are *not* shifted); booleans, or integers 0 and 1 of the
    output's shape → binary cross-entropy with logits; floats of the output's shape → mean
    squared error. Without target or loss: Σ ξ·output for a fixed normal ξ of unit RMS (seed 0),
    which gives gradients a scale but is no loss.

    Raises:
        DataError: the target does not fit the output, a class is out of range, or the loss that
            was given is not one number.
        UnknownNameError: a loss name that does not exist.
    """
    if callable(loss):
        return _given(loss, output, target)
    if loss is not None and loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES, "fanin.measuring.losses.LOSSES")
    own = _field(output, "loss")
    if target is None and loss is None:
        if isinstance(own, torch.Tensor):
            return _models_own(own, output, inputs)
        return _cotangent(output)
    if target is None:
        raise DataError(f"loss={loss!r} needs a target. Pass target=…, or leave the loss out.")
    if not isinstance(target, torch.Tensor):
        raise DataError(
            f"target: {type(target).__name__} is not a tensor. Pass loss=f(output, target) for "
            "targets of another kind."
        )
    prediction = main_output(output)
    if prediction is None:
        raise DataError(
            f"the model returned {describe(output)}: no floating tensor to compare with the "
            "target. Pass loss=f(output, target)."
        )
    if prediction.device != target.device:
        raise DataError(
            f"the target is on {target.device} and the model's output on {prediction.device}. "
            "Move the target to the model's device."
        )
    if loss is not None:
        return LOSSES[loss](prediction, target)
    return _by_target(prediction, target)


def _by_target(prediction: torch.Tensor, target: torch.Tensor) -> LossValue:
    if target.is_floating_point():
        return _mean_squared_error(prediction, target)
    binary = target.dtype == torch.bool or (
        target.shape == prediction.shape and bool(((target == 0) | (target == 1)).all())
    )
    one_output = prediction.dim() == 2 and prediction.shape[1] == 1 and target.dim() == 1
    if binary or one_output:
        return _binary_cross_entropy(prediction, target)
    return _cross_entropy(prediction, target)


def main_output(output: Any) -> torch.Tensor | None:
    """The tensor that a target is compared with: ``.logits``, or the first floating tensor."""
    for name in ("logits", "prediction_logits", "out", "sample", "last_hidden_state"):
        found = _field(output, name)
        if isinstance(found, torch.Tensor) and found.is_floating_point():
            return found
    floating = [t for t in _main_leaves(output) if t.is_floating_point()]
    return floating[0] if floating else None


def _main_leaves(output: Any) -> list[torch.Tensor]:
    """Tensors of the output, caches and copies of inner layers left out."""
    if isinstance(output, Mapping):
        kept = {key: value for key, value in output.items() if key not in _NOT_MAIN}
        return leaves(kept)
    return leaves(output)


def _field(output: Any, name: str) -> Any:
    if isinstance(output, Mapping):
        return output.get(name)
    if isinstance(output, torch.Tensor | tuple) and not hasattr(output, "_fields"):
        return None
    return getattr(output, name, None)


def _given(loss: Callable[[Any, Any], torch.Tensor], output: Any, target: Any) -> LossValue:
    name = getattr(loss, "__name__", type(loss).__name__)
    try:
        value = loss(output, target)
    except Exception as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"loss {name!r} raised {type(error).__name__} on output {describe(output)} and target "
            f"{describe(target)}: {said[:300]}. Give a loss(output, target) that fits the model."
        ) from error
    return LossValue(_scalar(value), name)


def _scalar(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise DataError(
            f"loss(output, target) returned {describe(value)}; it must return one number as a "
            "tensor. Average over the batch inside it."
        )
    return value.reshape(())


def _cotangent(output: Any) -> LossValue:
    parts = [t for t in _main_leaves(output) if t.is_floating_point() and t.requires_grad]
    total = torch.zeros(())
    for tensor in parts:
        # float32 sums: a half-precision total of a large output would overflow.
        product = tensor.float() * direction(tensor.shape).to(tensor.device)
        total = total.to(product.device) + product.sum()
    return LossValue(total, "cotangent")


def _models_own(value: torch.Tensor, output: Any, inputs: Any) -> LossValue:
    logits, labels = _field(output, "logits"), None
    if isinstance(inputs, Mapping):
        labels = inputs.get("labels")
    if not (isinstance(logits, torch.Tensor) and isinstance(labels, torch.Tensor)):
        return LossValue(_scalar(value), "model")
    if labels.is_floating_point() or logits.dim() != labels.dim() + 1:
        return LossValue(_scalar(value), "model")
    rows = logits.detach().reshape(-1, logits.shape[-1])
    flat = labels.reshape(-1).long()
    kept = (flat >= 0) & (flat < rows.shape[1])
    # Labels of causal models are shifted inside; unshifted they give the same spread.
    each = F.cross_entropy(rows[kept].float(), flat[kept], reduction="none")
    return LossValue(
        _scalar(value),
        "model",
        classes=int(logits.shape[-1]),
        label_entropy=entropy_of(flat, int(logits.shape[-1])),
        error=_standard_error(each),
        logits=rows,
        labels=int(kept.sum()),
    )


def _cross_entropy(output: torch.Tensor, target: torch.Tensor) -> LossValue:
    if target.is_floating_point() or target.is_complex():
        raise DataError(
            f"cross-entropy needs integer classes; the target is {describe(target)}. Pass "
            "loss='mse' for numbers, or loss=f(output, target)."
        )
    second = output.dim() >= 2 and output.shape[:1] + output.shape[2:] == target.shape
    last = output.dim() >= 2 and output.shape[:-1] == target.shape
    if not second and not last:
        raise DataError(
            f"target {describe(target)} does not fit the output {describe(output)}: cross-entropy "
            f"needs a target of shape {tuple(output.shape[:1] + output.shape[2:])} (classes beside "
            f"the batch) or {tuple(output.shape[:-1])} (classes last). Pass loss=f(output, target) "
            "for anything else."
        )
    # Where both fit (as many positions as classes) PyTorch's own convention wins.
    rows = output.movedim(1, -1) if second else output
    classes = int(rows.shape[-1])
    logits, labels = rows.reshape(-1, classes), target.reshape(-1).long()
    kept = labels != IGNORED_CLASS
    wrong = labels[kept & ((labels < 0) | (labels >= classes))]
    if wrong.numel():
        raise DataError(
            f"target: class {int(wrong[0])} is outside 0 to {classes - 1} (the output has "
            f"{classes} classes). Number the classes from 0, or mark positions to leave out with "
            f"{IGNORED_CLASS}."
        )
    if not bool(kept.any()):
        raise DataError(f"target: every label is {IGNORED_CLASS}, so that no position is left.")
    each = F.cross_entropy(logits[kept].float(), labels[kept], reduction="none")
    return LossValue(
        each.mean(),
        "cross_entropy",
        classes=classes,
        label_entropy=entropy_of(labels, classes),
        error=_standard_error(each),
        logits=logits[kept].detach(),
        labels=int(kept.sum()),
    )


def _binary_cross_entropy(output: torch.Tensor, target: torch.Tensor) -> LossValue:
    if output.numel() != target.numel() or output.shape[0] != target.shape[0]:
        raise DataError(
            f"target {describe(target)} does not fit the output {describe(output)}: binary "
            "cross-entropy needs one value per output."
        )
    values = target.reshape(output.shape).float()
    if bool(((values < 0) | (values > 1)).any()):
        raise DataError(
            f"target: binary cross-entropy needs values from 0 to 1, and {float(values.max()):g} "
            "is among them. For several classes give the model one output per class."
        )
    if output.grad_fn is not None and type(output.grad_fn).__name__ == "SigmoidBackward0":
        each = F.binary_cross_entropy(output.float(), values, reduction="none")
    else:
        each = F.binary_cross_entropy_with_logits(output.float(), values, reduction="none")
    share = values.mean()
    entropy = -float(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share))
    return LossValue(
        each.mean(),
        "bce",
        label_entropy=entropy,
        error=_standard_error(each),
        labels=values.numel(),
    )


def _pointwise(
    name: str, function: Callable[..., torch.Tensor]
) -> Callable[[torch.Tensor, torch.Tensor], LossValue]:
    def measured(output: torch.Tensor, target: torch.Tensor) -> LossValue:
        if output.shape != target.shape:
            raise DataError(
                f"target {describe(target)} does not fit the output {describe(output)}: {name} "
                "needs equal shapes (torch would broadcast, which is rarely meant). Reshape the "
                "target, or pass loss=f(output, target)."
            )
        each = function(output.float(), target.float(), reduction="none")
        return LossValue(each.mean(), name, error=_standard_error(each))

    return measured


_mean_squared_error = _pointwise("mse", F.mse_loss)

LOSSES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], LossValue]] = {
    "cross_entropy": _cross_entropy,
    "bce": _binary_cross_entropy,
    "mse": _mean_squared_error,
    "l1": _pointwise("l1", F.l1_loss),
    "huber": _pointwise("huber", F.huber_loss),
}
"""Loss name -> function of (output, target)."""


def _standard_error(each: torch.Tensor) -> float | None:
    if each.numel() < 2:
        return None
    return float(each.detach().std()) / math.sqrt(each.numel())


def entropy_of(labels: torch.Tensor, classes: int) -> float:
    """Entropy in nats of the labels' frequencies, ignored positions left out."""
    kept = labels[labels != IGNORED_CLASS].long()
    counts = torch.bincount(kept.cpu(), minlength=classes).double()
    shares = counts[counts > 0] / max(1.0, float(counts.sum()))
    return float(-(shares * shares.log()).sum())
