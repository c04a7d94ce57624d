"""Trains nets of one architecture side by side, each with its own start and learning rate."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

Batch = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Adam:
    first: float = 0.9
    second: float = 0.999

    def step(self, moments: list[torch.Tensor], gradient: torch.Tensor, step: int) -> torch.Tensor:
        mean, square = moments
        mean.mul_(self.first).add_(gradient, alpha=1 - self.first)
        square.mul_(self.second).addcmul_(gradient, gradient, value=1 - self.second)
        size = (square / (1 - self.second**step)).sqrt() + 1e-8
        return mean / (1 - self.first**step) / size


@dataclass(frozen=True)
class Momentum:
    first: float = 0.9

    def step(self, moments: list[torch.Tensor], gradient: torch.Tensor, step: int) -> torch.Tensor:
        return moments[0].mul_(self.first).add_(gradient)


class ManyNets:
    """Nets that see the same batches; a loss that is not finite ends as NaN and stays so.

    Args:
        nets: of one architecture.
        rates: one a net.
        loss: of a net's output and a batch, whose first ``inputs`` members the net reads.
        inputs: number of tensors that the nets read.
        optimizer: with the moments that it keeps.
    """

    def __init__(
        self,
        nets: list[nn.Module],
        rates: list[float],
        loss: Callable[[torch.Tensor, Batch], torch.Tensor],
        inputs: int,
        optimizer: Adam | Momentum,
    ) -> None:
        parameters, self.buffers = stack_module_state(nets)
        self.parameters = {k: v.detach().clone() for k, v in parameters.items()}
        self.rates, self.optimizer, self.taken = torch.tensor(rates), optimizer, 0
        self.moments = {
            k: [torch.zeros_like(v), torch.zeros_like(v)] for k, v in self.parameters.items()
        }
        frame = copy.deepcopy(nets[0])

        def one(parameters: object, buffers: object, *batch: torch.Tensor) -> torch.Tensor:
            out = functional_call(frame, (parameters, buffers), batch[:inputs])
            return loss(out, batch)

        self._one = one

        def output(parameters: object, buffers: object, *given: torch.Tensor) -> torch.Tensor:
            return functional_call(frame, (parameters, buffers), given)

        self._output = output

    def train(self, batches: Iterable[Batch]) -> torch.Tensor:
        """Losses, (steps, nets), each before its step."""
        losses = []
        for batch in batches:
            self.taken += 1
            gradients, values = self._map(grad_and_value(self._one), batch)
            for name, p in self.parameters.items():
                step = self.optimizer.step(self.moments[name], gradients[name], self.taken)
                p.sub_(self.rates.view(-1, *(1,) * (p.dim() - 1)) * step)
            losses.append(values.detach())
        return torch.stack(losses)

    @torch.no_grad()
    def losses(self, batch: Batch) -> torch.Tensor:
        """Of every net on one batch."""
        return self._map(self._one, batch)

    @torch.no_grad()
    def outputs(self, given: Batch) -> torch.Tensor:
        """Of every net: (nets, …)."""
        return self._map(self._output, given)

    def _map(self, function: Callable[..., object], batch: Batch) -> object:
        mapped = vmap(function, in_dims=(0, 0, *(None,) * len(batch)), randomness="different")
        return mapped(self.parameters, self.buffers, *batch)
