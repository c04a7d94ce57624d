"""Weights drawn as the plan draws them, for what is run on samples.

A recurrent matrix meets itself at every step, and whether it is orthogonal, Gaussian or blockwise
decides what its powers do: numbers of the right moments are not enough there.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import nn

from fanin.randomness.address import Address
from fanin.schemes.orthogonal import DeltaOrthogonal, Orthogonal
from fanin.schemes.scaled import Scaled


class WeightDraws:
    """Draws of a model's parameters, the same whenever they are asked for.

    Args:
        model: whose weights count where no plan draws them.
        ids: name of every parameter -> its tensor id.
        plan: parameter name -> assignment; None for the weights that stand there.
    """

    def __init__(
        self, model: nn.Module, ids: Mapping[str, int], plan: Mapping[str, Any] | None
    ) -> None:
        self._plan = plan
        self._parameters: dict[int, tuple[str, torch.Tensor]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if name in ids:
                self._parameters.setdefault(ids[name], (name, parameter))
        self._made: dict[int, torch.Tensor] = {}

    def keeps_lengths(self, tensor: int) -> bool:
        """Whether the plan draws orthonormal columns, so that |W x| is the same for all x of |x|.

        Args:
            tensor: id of a parameter, (outputs, inputs).
        """
        name, parameter = self._parameters.get(tensor, ("", None))
        assignment = None if self._plan is None else self._plan.get(name)
        if parameter is None or assignment is None or parameter.dim() != 2:
            return False
        scheme = assignment.scheme
        scheme = scheme.of if isinstance(scheme, Scaled) else scheme
        if not isinstance(scheme, Orthogonal | DeltaOrthogonal) or assignment.axes.block_sizes:
            return False
        sides = (assignment.axes.outputs, assignment.axes.inputs)
        outputs, inputs = (prod(parameter.shape[a] for a in side) for side in sides)
        return bool(outputs >= inputs)

    def drawn(self, tensor: int, runs: int, most: int | None = None) -> torch.Tensor | None:
        """Draws of a parameter, ``(runs, *shape)``, on the CPU in float32.

        Args:
            tensor: its id.
            runs: how many.
            most: give None where that would be more numbers to draw.

        Returns:
            None where the tensor is no parameter of real numbers, or has no values.
        """
        if runs <= len(self._made.get(tensor, ())):
            return self._made[tensor][:runs]
        name, parameter = self._parameters.get(tensor, ("", None))
        if parameter is None or not parameter.is_floating_point():
            return None
        assignment = None if self._plan is None else self._plan.get(name)
        if assignment is not None and assignment.scheme is not None:
            if most is not None and runs * parameter.numel() > most:
                return None
            found = torch.empty(runs, *parameter.shape)
            for run in range(runs):
                # A part of its own, so that no prediction sees the numbers that apply draws.
                address = Address(run, name).child("prediction")
                assignment.scheme.fill(found[run], assignment.axes, address)
                for row in assignment.zero_rows:
                    found[run, row].zero_()
        elif parameter.is_meta:
            return None
        else:
            value = parameter.detach().to(device="cpu", dtype=torch.float32)
            found = value.expand(runs, *value.shape)
        self._made[tensor] = found
        return found
