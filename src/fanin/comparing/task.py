"""What a network is trained for: its loss, and its accuracy where there are classes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user reads

from fanin.errors import DataError, unknown_name

LOSSES = ("cross_entropy", "mse")
IGNORED_LABEL = -100
"""PyTorch's ``ignore_index``: positions with this label count in neither loss nor accuracy."""

Loss = Callable[[Any, torch.Tensor], torch.Tensor]


def prediction(output: Any) -> Any:
    """The tensor that a model predicts with: itself, ``output.logits``, or a tuple's first."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, tuple | list) and output:
        return output[0]
    return output


@dataclass(frozen=True)
class Task:
    """A loss and how to count what is right.

    Args:
        name: "cross_entropy", "mse", or the name of the user's function.
        function: the user's ``loss(output, target)``, which sees the model's output as it is;
            None for the two built in.
        labels: targets are integer class labels, so that accuracy is defined.
    """

    name: str
    function: Loss | None
    labels: bool

    def loss(self, output: Any, target: torch.Tensor) -> torch.Tensor:
        """The loss of one batch, a scalar tensor."""
        if self.function is not None:
            return self.function(output, target)
        values = prediction(output)
        if self.name == "cross_entropy":
            return F.cross_entropy(classes_second(values, target), target)
        return F.mse_loss(values, target)

    def correct(self, values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Share of labels predicted right, over the last axes that ``target`` has.

        ``values`` may have further axes in front (one per network trained at once), which the
        result keeps.  A prediction that is NaN is no prediction, and counts as wrong.
        """
        extra = values.dim() - target.dim() - 1
        axis = extra + class_axis(values.shape[extra:], target)
        guess = values.argmax(dim=axis)
        right = (guess == target) & ~values.isnan().any(dim=axis)
        counted = target != IGNORED_LABEL
        over = tuple(range(extra, guess.dim()))
        return (right & counted).sum(dim=over) / counted.sum().clamp(min=1)

    def target_loss(self, classes: int | None, target: torch.Tensor) -> float | None:
        """The training loss that counts as converged, fixed before any training.

        Half of what knowing nothing costs: ½ ln C for cross-entropy, half the variance of the
        targets (about their mean, per output) for the mean squared error.  None for other
        losses, whose scale is unknown.
        """
        if self.function is not None:
            return None
        if self.name == "cross_entropy":
            return 0.5 * math.log(classes) if classes and classes > 1 else None
        variance = float(target.double().var(dim=0, correction=0).mean())
        return 0.5 * variance if variance > 0 else None


def class_axis(shape: torch.Size, target: torch.Tensor) -> int:
    """The axis of a prediction's shape that counts classes: last for tokens, second for pixels."""
    if shape[:-1] == target.shape:
        return len(shape) - 1
    if len(shape) > 1 and shape[:1] + shape[2:] == target.shape:
        return 1
    raise DataError(
        f"predictions of shape {list(shape)} do not fit labels of shape {list(target.shape)}. "
        "Give logits with one more axis than the labels (classes last, or second), or pass "
        "loss=function(output, target)."
    )


def classes_second(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Logits as ``F.cross_entropy`` wants them: classes on the second axis."""
    axis = class_axis(values.shape, target)
    return values if axis == min(1, values.dim() - 1) else values.movedim(axis, 1)


def task_for(loss: str | Loss | None, target: torch.Tensor) -> Task:
    """The task that a loss and a target's dtype mean.

    Args:
        loss: "cross_entropy", "mse", a function, or None: cross-entropy for integer targets,
            mean squared error for others.
        target: the labels or values.

    Raises:
        UnknownNameError: an unknown name.
        DataError: a loss that cannot take such a target, or something that is no loss.
    """
    labels = not target.is_floating_point() and not target.is_complex()
    if loss is None:
        return Task("cross_entropy" if labels else "mse", None, labels)
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise unknown_name("loss", loss, LOSSES, "help(fanin.compare)")
        if loss == "cross_entropy" and not labels:
            raise DataError(
                f"y: cross_entropy needs integer labels, and these are {target.dtype}. "
                "Convert them with y.long(), or pass loss='mse'."
            )
        if loss == "mse" and labels:
            raise DataError(
                f"y: mse needs floating-point targets, and these are {target.dtype}. "
                "Convert them with y.float(), or pass loss='cross_entropy'."
            )
        return Task(loss, None, labels)
    if not callable(loss):
        raise DataError(
            f"loss: {loss!r} is neither a name ({', '.join(LOSSES)}) nor a function of "
            "(output, target)."
        )
    name = getattr(loss, "__qualname__", "") or type(loss).__name__
    return Task(name, loss, labels)
