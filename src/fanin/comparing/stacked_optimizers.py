"""SGD with momentum and Adam over networks stacked along axis 0, each with its own learning rate.

Both follow PyTorch's update rules operation by operation, so that a network trained in a stack
ends where it would have ended alone, up to the rounding of batched matrix products.
"""

from collections.abc import Mapping

import torch

from fanin.comparing.course import ADAM_BETAS, ADAM_EPSILON, MOMENTUM


class StackedSGD:
    """v ← μ v + g, w ← w − η v, as ``torch.optim.SGD(momentum=0.9)`` does.

    Args:
        parameters: name -> tensor ``(networks, *shape)``, updated in place.
        learning_rates: ``(networks,)``.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], learning_rates: torch.Tensor
    ) -> None:
        self.parameters = parameters
        self.rates = {name: _aligned(learning_rates, p) for name, p in parameters.items()}
        self.velocity: dict[str, torch.Tensor] = {}

    def step(self, gradients: Mapping[str, torch.Tensor]) -> None:
        """One update of every network, in place."""
        with torch.no_grad():
            for name, gradient in gradients.items():
                if name in self.velocity:
                    self.velocity[name].mul_(MOMENTUM).add_(gradient)
                else:
                    self.velocity[name] = gradient.clone()
                self.parameters[name].sub_(self.velocity[name] * self.rates[name])


class StackedAdam:
    """Adam (Kingma & Ba 2015) with PyTorch's defaults, as ``torch.optim.Adam`` does.

    Args:
        parameters: name -> tensor ``(networks, *shape)``, updated in place.
        learning_rates: ``(networks,)``.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], learning_rates: torch.Tensor
    ) -> None:
        self.parameters = parameters
        self.rates = {name: _aligned(learning_rates, p) for name, p in parameters.items()}
        self.first: dict[str, torch.Tensor] = {}
        self.second: dict[str, torch.Tensor] = {}
        self.steps = 0

    def step(self, gradients: Mapping[str, torch.Tensor]) -> None:
        """One update of every network, in place."""
        self.steps += 1
        b1, b2 = ADAM_BETAS
        first_correction = 1 - b1**self.steps
        second_correction = (1 - b2**self.steps) ** 0.5
        with torch.no_grad():
            for name, gradient in gradients.items():
                m = self.first.setdefault(name, torch.zeros_like(gradient))
                v = self.second.setdefault(name, torch.zeros_like(gradient))
                m.lerp_(gradient, 1 - b1)
                v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
                scale = (v.sqrt() / second_correction).add_(ADAM_EPSILON)
                self.parameters[name].sub_(m / scale * (self.rates[name] / first_correction))


STACKED: Mapping[str, type[StackedSGD] | type[StackedAdam]] = {
    "sgd": StackedSGD,
    "adam": StackedAdam,
}


def _aligned(rates: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    shaped = rates.view(-1, *[1] * (parameter.dim() - 1))
    return shaped.to(device=parameter.device, dtype=parameter.dtype)
