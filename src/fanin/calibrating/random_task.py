"""Random inputs and labels of the shapes of a batch, for methods that need no data."""

from collections.abc import Mapping
from typing import Any

import torch

from fanin.errors import DataError
from fanin.graph.calling import describe
from fanin.measuring.losses import LOSSES, Loss, main_output

_NO_SIGNALS = ("mask", "bias")  # floating arguments that steer and carry no data


def random_inputs(value: Any, generator: torch.Generator, name: str = "") -> Any:
    """The same inputs with N(0, 1) in every floating tensor; integers and masks stay."""
    if isinstance(value, torch.Tensor):
        if not value.is_floating_point() or any(word in name for word in _NO_SIGNALS):
            return value
        drawn = torch.randn(value.shape, generator=generator)
        return drawn.to(device=value.device, dtype=value.dtype)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(random_inputs(v, generator, name) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(random_inputs(v, generator, name) for v in value)
    if isinstance(value, Mapping):
        return {key: random_inputs(v, generator, str(key)) for key, v in value.items()}
    return value


def random_target(output: Any, loss: Loss, generator: torch.Generator) -> torch.Tensor | None:
    """A target that fits the output: random classes, or N(0, 1) for losses of regression.

    Classes are on the last axis of outputs of two and three axes (tokens), on the second of
    others (pixels).  A model that returns its own loss needs no target.

    Raises:
        DataError: the output holds no floating tensor, or the loss is a function, of which no
            random target is known.
    """
    if loss is None and isinstance(getattr(output, "loss", None), torch.Tensor):
        return None
    prediction = main_output(output)
    if prediction is None:
        raise DataError(
            f"the model returned {describe(output)}: no floating tensor that a loss could be "
            "computed of. Use 'lsuv', which needs none."
        )
    if callable(loss) or (loss is not None and loss not in LOSSES):
        raise DataError(
            f"loss {getattr(loss, '__name__', loss)!r}: what its targets look like is not known. "
            "Pass the target too: fanin.recipes.MetaInit(target=y, loss=…)."
        )
    shape = prediction.shape
    axis = len(shape) - 1 if len(shape) < 4 else 1
    classes = shape[axis] if shape else 1
    if loss in ("mse", "l1", "huber") or (loss is None and classes < 2):
        target = torch.randn(shape, generator=generator)
    elif loss == "bce":
        target = torch.randint(0, 2, shape, generator=generator).float()
    else:
        places = [n for a, n in enumerate(shape) if a != axis]
        target = torch.randint(0, classes, places, generator=generator)
    return target.to(prediction.device)
