"""Layers of weight, norm, activation without a skip, and what their norms do to gradients.

Behind a batch norm samples are as good as independent, so that an activation passes its variance
on, E[φ²] − E[φ]²; the next norm divides by it, and gradients grow by E[φ′²]/Var φ a layer in second
moment, whatever the weights: π/(π − 1) = 1.467 for ReLU (Yang et al. 2019).  Behind a norm over
features the mean stays in, and the factor is E[φ′²]/E[φ²].  Measured over 20 layers of width 128,
the formula is right within 2 % for ReLU, tanh, ELU, leaky ReLU and sigmoid behind batch norm, and
for all but sigmoid (6 %) behind layer norm; behind batch norm SiLU and softplus grow faster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch

from fanin.errors import FaninError
from fanin.graph.role import Activation, Role
from fanin.graph.vocabulary import COPIES, RESHAPES
from fanin.planning.auto.gain import LINEAR, name_of
from fanin.planning.auto.operands import path_from
from fanin.planning.auto.plain_stack import chain_of
from fanin.planning.subject import Circumstances, Subject, once_per_model
from fanin.propagation import stability

_BATCH_NORMS = ("BatchNorm", "SyncBatchNorm", "LazyBatchNorm")
_QUIET = RESHAPES | COPIES | {"add", "add_"}
"""What may stand between a weight and the norm that reads its result: moves and its bias."""


@dataclass(frozen=True)
class NormedLayer:
    """One weight of a run, and the norm between it and the next.

    Args:
        weight: the weight's name.
        scale: the norm's scale, None where it has none that multiplies by itself alone.
        shift: the norm's bias, None likewise.
        ahead: the norm reads the weight's own result, so that the activation reads the norm.
        spatial: the weight is a convolution that reads more than one place.
    """

    weight: str
    scale: Subject | None
    shift: Subject | None
    ahead: bool
    spatial: bool


@dataclass(frozen=True)
class NormRun:
    """Layers in a row, each followed by a norm of one kind and one activation."""

    layers: tuple[NormedLayer, ...]
    batch: bool
    activation: Activation

    def factor(self, scale: float = 1.0, shift: float = 0.0) -> float:
        """By which a layer multiplies the gradient's second moment; 1 where it is not known.

        Args:
            scale: what the norms multiply by.
            shift: what they add.
        """
        name, parameters = self.activation.name, tuple(sorted(self.activation.parameters.items()))
        return _factor(name, parameters, self.batch, scale, shift)


@lru_cache(maxsize=4096)
def _factor(
    name: str, parameters: tuple[tuple[str, float], ...], batch: bool, scale: float, shift: float
) -> float:
    try:
        function = stability.resolved(name, dict(parameters))
    except FaninError:
        return 1.0

    def met(x: torch.Tensor) -> torch.Tensor:
        return function(scale * x + shift)

    grown = stability.at_second_moment(met).chi1
    # Of two independent samples the mean alone is shared: E[φ]²/E[φ²].
    shared = stability.correlation_map(met, 0.0) if batch else 0.0
    return grown / max(1 - shared, 1e-6)


@once_per_model
def norm_runs(circumstances: Circumstances) -> tuple[NormRun, ...]:
    """All runs of a model whose weights are one chain, the longest included; none of others."""
    runs: list[NormRun] = []
    last: Subject | None = None
    joined = False  # whether the last run goes on
    for subject in chain_of(circumstances):
        role = subject.role
        bent = role.activation is not None and name_of(role.activation) not in LINEAR
        found = _between(last, subject, circumstances) if last is not None else None
        if last is not None and found is not None and last.role.activation is not None:
            layer, batch = found
            kind = (batch, last.role.activation)
            if joined and (runs[-1].batch, runs[-1].activation) == kind:
                runs[-1] = NormRun((*runs[-1].layers, layer), *kind)
            else:
                runs.append(NormRun((layer,), *kind))
        joined = found is not None
        last = subject if role.role is Role.WEIGHT and role.norm_after and bent else None
    return tuple(runs)


def _between(
    last: Subject, subject: Subject, circumstances: Circumstances
) -> tuple[NormedLayer, bool] | None:
    """The norm between two weights, and whether it is a batch norm; None for no norm, or a join."""
    graph = circumstances.graph
    path = path_from(last.name, subject.name, circumstances)
    if graph is None or path is None:
        return None
    norms = [operation for operation in path if "norm" in operation.name]
    if not norms:
        return None
    modules = [graph.modules.get(operation.module) for operation in norms]
    batch = any(m is not None and m.type_name.startswith(_BATCH_NORMS) for m in modules)
    loud = min((o for o in path if o.name not in _QUIET), key=lambda o: o.index)
    names = [graph.tensors[t].name for t in norms[0].inputs]
    own = _by_role([circumstances.subjects[n] for n in names if n in circumstances.subjects])
    ahead = len(norms) == 1 and loud is norms[0]
    spatial = any(last.shape[axis] > 1 for axis in last.axes.receptive)
    scale, shift = own.get(Role.NORM_SCALE), own.get(Role.NORM_BIAS)
    return NormedLayer(last.name, scale, shift, ahead, spatial), batch


def _by_role(subjects: list[Subject]) -> Mapping[Role, Subject]:
    return {subject.role.role: subject for subject in subjects}
