"""What the rules look at: the model, and what one run of it showed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from fanin.checking.streams import Stream, read_streams
from fanin.graph.graph import Graph
from fanin.graph.role import ParameterRole
from fanin.measuring.simulation import Simulation
from fanin.planning.assignment import Plan
from fanin.signals import Signals


@dataclass
class Case:
    """One model under examination.

    Args:
        model: the module; rules read its tensors and never write them.
        signals: of the run, or of the weights alone.
        graph: what was recorded; None when the model was not run.
        roles: of its parameters; empty when the model was not run.
        plan: what the weights should be; None when none was given.
        simulate: takes the simulated steps; called at most once, and only if a rule asks.
    """

    model: nn.Module
    signals: Signals
    graph: Graph | None = None
    roles: Mapping[str, ParameterRole] = field(default_factory=dict)
    plan: Plan | None = None
    simulate: Callable[[], Simulation] | None = None

    @cached_property
    def simulation(self) -> Simulation:
        """What a few steps of gradient descent showed."""
        if self.simulate is None:
            return Simulation({}, {}, {}, 0)
        return self.simulate()

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """The tensors that every path from an input to the output passes, for each input."""
        return read_streams(self.graph, self.signals) if self.graph is not None else ()
