"""Walk along the signals: what an operation does to them, what comes before and after."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import cached_property

from fanin.graph.graph import Operation
from fanin.graph.reading import Reading
from fanin.graph.regions import Regions
from fanin.graph.use import Part, Use
from fanin.graph.uses import attention as attention_operations
from fanin.graph.uses.contraction import factors
from fanin.graph.vocabulary import (
    ELEMENTWISE,
    MAKERS,
    MERGES,
    MOVES,
    POOLS,
    REDUCTIONS,
    SOFTMAXES,
    word,
)


class Step(StrEnum):
    """What an operation does to the signals that it reads."""

    NONE = "none"  # reads no signal
    WEIGHT = "weight"  # multiplies one with a weight, or looks one up in a table
    NORM = "norm"
    MOVE = "move"
    SCALE = "scale"  # linear elementwise in one signal: bias, dropout mask, constant factor
    BEND = "bend"  # nonlinear elementwise in one signal
    SOFTMAX = "softmax"
    POOL = "pool"
    REDUCE = "reduce"
    ADD = "add"  # two signals
    MULTIPLY = "multiply"  # two signals, elementwise
    MERGE = "merge"  # several signals side by side
    CONTRACT = "contract"  # a matrix product of two signals
    ATTENTION = "attention"
    SUMMARY = "summary"  # part of a norm written by hand
    OTHER = "other"


TRANSPARENT = frozenset((Step.MOVE, Step.SCALE))


class Flow:
    """The signals of a graph, step by step."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.graph = reading.graph
        self.regions = Regions(reading).build()
        self._steps: dict[int, Step] = {}
        self._bypassed: dict[int, int] = {}
        self._weight_uses = {
            index: [use for use in uses if use.part in (Part.WEIGHT, Part.TABLE)]
            for index, uses in reading.uses_at.items()
        }

    def step(self, operation: Operation) -> Step:
        """What an operation does to the signals that it reads."""
        known = self._steps.get(operation.index)
        if known is None:
            known = self._steps[operation.index] = self._classify(operation)
        return known

    def weights_at(self, operation: Operation) -> list[Use]:
        """The weights and tables that an operation uses."""
        return self._weight_uses.get(operation.index, [])

    def sources(self, operation: Operation) -> list[int]:
        """The signals that an operation reads, control and weights left out."""
        if operation.index in self._bypassed:
            return [self._bypassed[operation.index]]
        regions = self.regions
        found = [
            t
            for t in dict.fromkeys(operation.inputs)
            if t in self.reading.signals or t in regions.origin
        ]
        if operation.index in regions.normalised or operation.index in regions.softmaxes:
            found = [t for t in found if t not in regions.statistics]
        elif len(found) > 1 and any(t not in regions.statistics for t in found):
            roots = {regions.root(t) for t in found}
            kept = [
                t
                for t in found
                if t not in regions.statistics or regions.statistics[t].of not in roots
            ]
            found = kept or found
        if operation.name == "copy_" and len(operation.inputs) > 1:
            found = [t for t in found if t == operation.inputs[1]] or found
        return found

    def bypass(self, operation: Operation, base: int) -> None:
        """From now on a sum counts as its term ``base`` alone: what an adapter adds is aside."""
        self._bypassed[operation.index] = base
        self._steps[operation.index] = Step.SCALE

    def is_weighted(self, tensor: int) -> bool:
        """Whether any weight took part in making a signal."""
        return tensor in self._weighted

    @cached_property
    def _weighted(self) -> set[int]:
        weighted: set[int] = set()
        for operation in self.graph.operations:
            if self.weights_at(operation) or any(t in weighted for t in operation.inputs):
                weighted.update(operation.outputs)
        return weighted

    def made_by(self, tensor: int) -> Operation | None:
        """The operation that made a signal; None for inputs."""
        return self.graph.producer.get(tensor)

    def _classify(self, operation: Operation) -> Step:
        name, sources = word(operation), self.sources(operation)
        regions = self.regions
        if self.weights_at(operation):
            return Step.WEIGHT
        if operation.index in self.reading.normalised or operation.index in regions.normalised:
            return Step.NORM
        if operation.index in regions.softmaxes:
            return Step.SOFTMAX
        if not sources or name in MAKERS:
            return Step.NONE
        if attention_operations.matches(name):
            return Step.ATTENTION
        if factors(operation) is not None:
            signals = [t for t in factors(operation) or () if t in self.reading.signals]
            return Step.CONTRACT if len(signals) == 2 else Step.SCALE
        out = operation.outputs[0] if operation.outputs else -1
        if out in regions.statistics:
            return self._of_summary(operation, name)
        if name in SOFTMAXES:
            return Step.SOFTMAX
        if name in MERGES and not (name == "copy_" and len(sources) == 1):
            if name in ("where", "masked_fill", "index_fill") and len(sources) == 1:
                return Step.MOVE
            return Step.MERGE if len(sources) > 1 else Step.MOVE
        if name in MOVES or name == "copy_" or name == "masked_fill":
            return Step.MOVE
        if name in POOLS:
            return Step.POOL
        if name in REDUCTIONS:
            return Step.REDUCE
        if name == "glu":
            return Step.MULTIPLY
        return self._of_elementwise(operation, name, sources, out)

    def _of_elementwise(
        self, operation: Operation, name: str, sources: list[int], out: int
    ) -> Step:
        uses = self.reading.uses_at.get(operation.index, [])
        if any(use.part is Part.SLOPE for use in uses):
            return Step.BEND
        if uses and len(sources) == 1:
            return Step.SCALE
        if name not in ELEMENTWISE:
            return Step.OTHER
        if len({self.regions.root(t) for t in sources}) == 1 and out in self.regions.origin:
            before = {t in self.regions.curved for t in sources}
            return Step.BEND if out in self.regions.curved and before != {True} else Step.SCALE
        if len(sources) == 1:
            return Step.SCALE
        if name in ("mul", "div", "true_divide", "maximum", "minimum", "pow", "atan2"):
            return Step.MULTIPLY
        if name in ("add", "sub", "rsub", "lerp", "addcmul", "addcdiv"):
            return Step.ADD
        return Step.OTHER

    def _of_summary(self, operation: Operation, name: str) -> Step:
        """A reduction that only ever served a norm is its part; else it is pooling."""
        if any(out in self._parts_of_norms for out in operation.outputs):
            return Step.SUMMARY
        if name in REDUCTIONS:
            return Step.REDUCE
        if name in MOVES:
            return Step.MOVE
        return Step.SCALE

    @cached_property
    def _parts_of_norms(self) -> frozenset[int]:
        """Tensors between a signal and its norm or softmax that lead nowhere else."""
        parts: set[int] = set()
        regions = self.regions
        finals = {**regions.normalised, **regions.softmaxes}
        for index in finals:
            front = [t for t in self.graph.operations[index].inputs if t in regions.statistics]
            while front:
                tensor = front.pop()
                maker = self.made_by(tensor)
                if tensor in parts or maker is None:
                    continue
                parts.add(tensor)
                front.extend(t for t in maker.inputs if t in regions.statistics)
        # What the summary was taken of (x², |x|) is a part too when nothing else reads it.
        for operation in reversed(self.graph.operations):
            for out in operation.outputs:
                consumers = self.graph.consumers.get(out, ())
                if out in regions.origin and consumers:
                    ends = [t for c in consumers for t in c.outputs]
                    if ends and all(t in parts for t in ends):
                        parts.add(out)
        return frozenset(parts)

    def in_norm(self, tensor: int) -> bool:
        """Whether a tensor lives only inside a norm written by hand."""
        return tensor in self._parts_of_norms

    def back(
        self,
        tensor: int,
        through: Callable[[Operation, Step], bool],
        limit: int = 4000,
    ) -> list[tuple[int, Operation | None]]:
        """Walk back from a tensor through some steps; the tensors met, and who made each.

        The walk goes on past an operation only if ``through`` says so.
        """
        front, seen = [tensor], set[int]()
        met: list[tuple[int, Operation | None]] = []
        while front and len(met) < limit:
            current = front.pop()
            if current in seen:
                continue
            seen.add(current)
            maker = self.made_by(current)
            met.append((current, maker))
            if maker is not None and through(maker, self.step(maker)):
                front.extend(self.sources(maker))
        return met

    def weights_behind(
        self, tensor: int, steps: Iterable[Step] = TRANSPARENT
    ) -> tuple[list[Use], bool]:
        """Weights whose results reach a tensor through the given steps alone.

        Returns:
            The uses, and whether every path back ends in one of them.
        """
        allowed = frozenset(steps)
        uses: dict[tuple[int, str], Use] = {}
        complete = True
        for _, maker in self.back(tensor, lambda _, step: step in allowed):
            if maker is None:
                complete = False
            elif self.step(maker) is Step.WEIGHT:
                for use in self.weights_at(maker):
                    uses[maker.index, use.parameter] = use
                if maker.index in self.reading.addends:
                    complete = False
            elif self.step(maker) not in allowed:
                complete = False
        return list(uses.values()), complete

    def depends_on(self, tensor: int, ancestor: int) -> tuple[bool, bool]:
        """Whether a signal is computed from another, and whether through a weight."""
        first = self.made_by(ancestor)
        oldest = first.index if first is not None else -1
        front, seen = [(tensor, False)], set()
        reached = False
        while front:
            state = front.pop()
            if state in seen:
                continue
            seen.add(state)
            current, weighted = state
            if current == ancestor:
                if weighted:
                    return True, True
                reached = True
                continue
            maker = self.made_by(current)
            if maker is None or maker.index <= oldest:
                continue
            weighted = weighted or self.step(maker) is Step.WEIGHT
            front.extend((t, weighted) for t in self.sources(maker))
        return reached, False
