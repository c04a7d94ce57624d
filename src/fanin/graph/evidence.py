"""All that was found in a graph, gathered once, from which every role is read."""

from collections.abc import Mapping
from functools import cached_property

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Graph, Operation
from fanin.graph.patterns.adapting import find_adapters
from fanin.graph.patterns.attending import find_attention
from fanin.graph.patterns.branch import read_branches
from fanin.graph.patterns.comparing import find_compared
from fanin.graph.patterns.gating import find_gating
from fanin.graph.patterns.recurrence import find_recurrence
from fanin.graph.patterns.residual import find_residuals
from fanin.graph.patterns.residual_streams import ResidualAdd
from fanin.graph.role import Branch, Compared
from fanin.graph.use import Part, Use
from fanin.graph.uses import read_uses


class Facts:
    """Uses, flow and patterns of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.reading = read_uses(graph)
        self.flow = Flow(self.reading)
        self.uses: dict[str, list[Use]] = {}
        for use in self.reading.uses:
            self.uses.setdefault(use.parameter, []).append(use)
        self.recurrence = find_recurrence(self.flow)
        looped = {*self.recurrence.recurrent, *self.recurrence.inputs}
        # Adapters early: the layers underneath are then read as if they stood alone.
        self.adapters = find_adapters(self.flow, looped)
        self.attention = find_attention(self.flow)
        self.gating = find_gating(self.flow)
        self.residuals = find_residuals(self.flow, looped, self.attention.scores)

    @cached_property
    def writers(self) -> dict[str, ResidualAdd]:
        """Parameter -> the residual sum that it writes to; of several, the longest chain's."""
        found: dict[str, ResidualAdd] = {}
        for add in self.residuals:
            for use in add.writers:
                known = found.get(use.parameter)
                if known is None or add.branches > known.branches:
                    found[use.parameter] = add
        return found

    @cached_property
    def inside(self) -> dict[str, ResidualAdd]:
        """Parameter -> the residual sum whose branch it stands in; of several, the innermost."""
        found: dict[str, ResidualAdd] = {}
        for add in self.residuals:
            first = self.flow.made_by(add.start)
            oldest = first.index if first is not None else -1
            front, seen = [add.branch], {add.start}
            while front:
                tensor = front.pop()
                maker = self.flow.made_by(tensor)
                if tensor in seen or maker is None or maker.index <= oldest:
                    continue
                seen.add(tensor)
                for use in self.flow.weights_at(maker):
                    known = found.get(use.parameter)
                    if known is None or add.start > known.start:
                        found[use.parameter] = add
                front.extend(self.flow.sources(maker))
        return found

    @cached_property
    def branches(self) -> Mapping[str, Branch]:
        """Parameter -> where it stands in the innermost residual branch around it."""
        return read_branches(self.flow, self.residuals)

    @cached_property
    def compared(self) -> Mapping[str, Compared]:
        """Parameter -> which of the towers, compared by their cosines, it projects."""
        return find_compared(self.flow)

    @cached_property
    def streams(self) -> frozenset[int]:
        """Tensors of residual streams: what branches are computed from, and the sums."""
        sums = (add.operation.outputs[0] for add in self.residuals)
        return frozenset((*sums, *(add.start for add in self.residuals)))

    @cached_property
    def shortcuts(self) -> dict[str, ResidualAdd]:
        """Parameter -> the residual sum whose stream it projects."""
        return {use.parameter: add for add in self.residuals for use in add.shortcut}

    @cached_property
    def branch_ends(self) -> dict[int, ResidualAdd]:
        """Tensors at the end of a branch, walking back from its sum."""
        found: dict[int, ResidualAdd] = {}
        for add in self.residuals:
            for tensor, _ in self.flow.back(
                add.branch, lambda _, step: step in (Step.MOVE, Step.SCALE), limit=40
            ):
                found.setdefault(tensor, add)
        return found

    @cached_property
    def depths(self) -> dict[int, int]:
        """Tensor -> number of weight layers on the longest path to it."""
        depths: dict[int, int] = {}
        for operation in self.graph.operations:
            deepest = max((depths.get(t, 0) for t in operation.inputs), default=0)
            deepest += bool(self.flow.weights_at(operation))
            for out in operation.outputs:
                depths[out] = deepest
        return depths

    def readers(self, name: str) -> list[str]:
        """The operations that read a parameter directly, in words."""
        tensor = next((t.id for t in self.graph.tensors.values() if t.name == name), None)
        if tensor is None:
            return []
        return [at(operation) for operation in self.graph.consumers.get(tensor, ())]

    def weights_beside(self, name: str) -> list[str]:
        """The weights to whose results a bias is added."""
        names: list[str] = []
        for use in self.uses.get(name, []):
            here = self.flow.weights_at(use.operation)
            if not here and use.source is not None:
                here = self.flow.weights_behind(use.source)[0]
            names.extend(weight.parameter for weight in here if weight.part is Part.WEIGHT)
        return names


def at(operation: Operation) -> str:
    """An operation in words: name, number, module."""
    place = f" in {operation.module!r}" if operation.module else ""
    return f"{operation.name} #{operation.index}{place}"
