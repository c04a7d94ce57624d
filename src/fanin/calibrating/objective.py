"""The loss of the scratch model as a function of the scales of its tensors."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.func import functional_call

from fanin.calibrating.scratch import Scratch
from fanin.errors import DataError, FaninError, RecordError
from fanin.graph.calling import arguments
from fanin.measuring.losses import Loss, LossValue, evaluate

Tensors = Mapping[str, torch.Tensor]
MakeTarget = Callable[[Any], Any]


class Objective:
    """Runs the scratch model with other values in the place of its parameters.

    Args:
        scratch: drawn by the base recipe.
        recipe: name of the recipe, for messages.
        loss: as for ``fanin.measure``.
    """

    def __init__(self, scratch: Scratch, recipe: str, loss: Loss) -> None:
        self.scratch, self.recipe, self._loss = scratch, recipe, loss
        self._twice = False  # seen to have second derivatives
        self.start: dict[str, torch.Tensor] = {
            name: parameter.detach()
            for name, parameter in scratch.parameters.items()
            if parameter.requires_grad and parameter.is_floating_point()
        }

    def scaled(self, scales: Tensors) -> dict[str, torch.Tensor]:
        """Every trained parameter, those named in ``scales`` times their scale."""
        return {n: v * scales[n] if n in scales else v for n, v in self.start.items()}

    def loss(self, values: Tensors, inputs: Any, target: Any) -> torch.Tensor:
        """The loss with these values, to be differentiated.

        Args:
            values: parameter -> value.
            inputs: as ``scratch.inputs``, or some rows of them.
            target: a target, or a function of the output that makes one.

        Raises:
            DataError: target and output do not fit.
            RecordError: the model raised.
        """
        positional, keyword = arguments(inputs)
        try:
            output = functional_call(self.scratch.model, dict(values), positional, keyword)
        except FaninError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())
            raise RecordError(
                f"{self.recipe}: {type(self.scratch.model).__name__} raised "
                f"{type(error).__name__} on the batch: {said[:300]}. Give inputs with which "
                "model(...) runs."
            ) from error
        wanted = target(output) if callable(target) else target
        found = evaluate(output, wanted, self._loss, inputs)
        self._check(found)
        return found.value

    def _check(self, found: LossValue) -> None:
        if found.name == "cotangent":
            raise DataError(
                f"recipe {self.recipe!r} minimises a loss, and neither a target nor a loss of the "
                "model's own is there. Pass fanin.recipes.GradInit(target=y), with loss=… where "
                "the target's dtype does not say it; on the command line --data file.py:batch."
            )
        if not found.value.requires_grad:
            raise DataError(
                f"recipe {self.recipe!r} differentiates the loss, and no trained parameter reaches "
                "it: the output is of integers, or cut off by detach(). Use 'lsuv', which needs no "
                "gradient."
            )

    def gradients(self, loss: torch.Tensor, wanted: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Gradients that can be differentiated again; zeros where the loss does not reach.

        Raises:
            RecordError: the first or second derivative of an operation is missing.
        """
        found = self._grad(loss, wanted, create_graph=True)
        if not self._twice:
            _check_differentiable(found, self.recipe)
            self._twice = True  # another run of the same model has the same operations
        return found

    def plain_gradients(
        self, value: torch.Tensor, wanted: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Gradients that are final."""
        return self._grad(value, wanted, create_graph=False)

    def _grad(
        self, value: torch.Tensor, wanted: Sequence[torch.Tensor], *, create_graph: bool
    ) -> list[torch.Tensor]:
        if not value.requires_grad:
            return [torch.zeros_like(w) for w in wanted]
        try:
            found = torch.autograd.grad(
                value, list(wanted), create_graph=create_graph, allow_unused=True
            )
        except RuntimeError as error:
            said = " ".join(str(error).split())
            raise RecordError(
                f"recipe {self.recipe!r} differentiates gradients, and {said[:300]} Use 'lsuv', "
                "which needs no gradient."
            ) from error
        return [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]


def _check_differentiable(gradient: Sequence[torch.Tensor], recipe: str) -> None:
    """A custom function marked ``once_differentiable`` cuts the graph off instead of raising.

    Its error waits on a path that leads to no parameter, so that the second derivative would pass
    for zero.
    """
    seen: set[Any] = set()
    front = [g.grad_fn for g in gradient]
    while front:
        node = front.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise RecordError(
                f"recipe {recipe!r} differentiates gradients, and the model uses an "
                "autograd.Function that is marked once_differentiable. Use 'lsuv', which needs "
                "no gradient."
            )
        front.extend(following for following, _ in node.next_functions)


def finite(value: torch.Tensor, what: str, recipe: str) -> float:
    """A number, or a clear error.

    Raises:
        RecordError: it is NaN or infinite.
    """
    number = float(value.detach())
    if not math.isfinite(number):
        raise RecordError(
            f"recipe {recipe!r}: {what} is {number} on this batch. Start from a base that is "
            "stable, such as base='lsuv' applied first, or see fanin.check(model, batch)."
        )
    return number


def scalable(scratch: Scratch, names: Iterable[str]) -> dict[str, str]:
    """Parameters whose scale may be learnt -> the tensor that holds it; all-zero ones left out."""
    found = {}
    for name in names:
        holder = scratch.scaled_by(name)
        if not scratch.fixed(name) and bool(scratch.parameters[name].detach().any()):
            found[name] = holder
    return found
