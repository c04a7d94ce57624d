"""Layers of weight, norm, activation without a skip: what the norms do to gradients.

Behind a batch norm samples are as good as independent, so that an activation passes its variance
on, E[φ²] − E[φ]²; the next norm divides by it, and gradients grow by E[φ′²]/Var φ a layer in second
moment, whatever the weights: π/(π − 1) = 1.467 for ReLU (Yang et al. 2019).  Behind a norm over
features the mean stays in, and the factor is E[φ′²]/E[φ²].  Measured over 20 layers of width 128,
the formula is right within 2 % for ReLU, tanh, ELU, leaky ReLU and sigmoid behind batch norm, and
for all but sigmoid (6 %) behind layer norm; behind batch norm SiLU and softplus grow faster.

Scikit-learn's digits, width 64, best of five rates of SGD: batch norm and ReLU 10 layers deep reach
96.7 %, 20 layers 93.1, 30 layers 69.9 and 50 layers 25.2.
"""

import math
from dataclasses import dataclass

from fanin.errors import FaninError
from fanin.graph.role import Activation, Role
from fanin.planning.auto.gain import LINEAR, name_of
from fanin.planning.auto.operands import path_from
from fanin.planning.auto.plain_stack import chain_of
from fanin.planning.auto.stack_depth import start_of
from fanin.planning.subject import Circumstances, Subject
from fanin.propagation import stability
from fanin.propagation.isometry import Isometry

MOST_CHANGE = 10.0
"""Of the gradient's size from one end to the other: where the check, too, begins to warn."""

HOPELESS = 1e3
"""Where the check sees an error.  Below, such nets learn, if later: MobileNet's 27 layers (180)."""

_BATCH_NORMS = ("BatchNorm", "SyncBatchNorm", "LazyBatchNorm")


@dataclass(frozen=True)
class _Run:
    """Layers in a row, each followed by a norm of one kind and one activation."""

    layers: int
    batch: bool
    activation: Activation

    @property
    def factor(self) -> float:
        """By which a layer multiplies the gradient's second moment; 1 where it is not known."""
        try:
            function = stability.resolved(self.activation.name, dict(self.activation.parameters))
        except FaninError:
            return 1.0
        grown = stability.at_second_moment(function).chi1
        # Of two independent samples the mean alone is shared: E[φ]²/E[φ²].
        shared = stability.correlation_map(function, 0.0) if self.batch else 0.0
        return grown / max(1 - shared, 1e-6)


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """That a deep stack with norms needs skips, or would learn sooner with them."""
    run = max(_runs(circumstances), key=lambda run: run.layers, default=None)
    if run is None or run.factor <= 0:
        return ()
    change = math.exp(run.layers * abs(math.log(run.factor)) / 2)
    if change <= MOST_CHANGE:
        return ()
    kind = "batch norm" if run.batch else "norm"
    grows = "grow" if run.factor > 1 else "shrink"
    first = f"{'' if run.factor > 1 else '1/'}{float(f'{change:.2g}'):g}"
    start = start_of(run.activation, run.layers)
    isometric = isinstance(start, Isometry)
    remedy = "It needs skips" if change > HOPELESS else "Skips would let it learn sooner"
    without = "; without its norms auto would start it as an isometry" if isometric else ""
    return (
        f"{run.layers} layers of {kind} and {run.activation.name} without a skip: gradients "
        f"{grows} by {run.factor:.4g} a layer in second moment, whatever the weights, so that "
        f"those of the first layer are {first} times as large as the last one's. "
        f"{remedy}{without}.",
    )


def _runs(circumstances: Circumstances) -> list[_Run]:
    runs: list[_Run] = []
    last: Subject | None = None
    for subject in chain_of(circumstances):
        role = subject.role
        bent = role.activation is not None and name_of(role.activation) not in LINEAR
        plain = role.role is Role.WEIGHT and role.norm_after and bent
        batch = _joined_by(last, subject, circumstances) if last is not None else None
        if last is not None and batch is not None and last.role.activation is not None:
            known = runs[-1] if runs else None
            same = known is not None and (known.batch, known.activation) == (
                batch,
                last.role.activation,
            )
            if known is not None and same:
                runs[-1] = _Run(known.layers + 1, known.batch, known.activation)
            else:
                runs.append(_Run(1, batch, last.role.activation))
        last = subject if plain else None
    return runs


def _joined_by(last: Subject, subject: Subject, circumstances: Circumstances) -> bool | None:
    """Whether it is a batch norm that stands between two weights; None for no norm, or a join."""
    graph = circumstances.graph
    path = path_from(last.name, subject.name, circumstances)
    if graph is None or path is None:
        return None
    norms = [operation for operation in path if "norm" in operation.name]
    if not norms:
        return None
    modules = [graph.modules.get(operation.module) for operation in norms]
    return any(m is not None and m.type_name.startswith(_BATCH_NORMS) for m in modules)
