"""Elementwise stretches of a graph: a function of one number applied to every element.

``x * sigmoid(x)``, ``0.5 * x * (1 + tanh(...))`` and ``relu(x)`` are all one activation: the
operations between a signal and what is computed from it alone, element by element, form a
region, and the function that the region computes is evaluated on a grid and compared with the
known activations.  Norms written by hand (``x * rsqrt(mean(x²))``) are found on the way.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from fanin.graph.graph import Operation, Ref
from fanin.graph.reading import Reading
from fanin.graph.vocabulary import (
    COPIES,
    ELEMENTWISE,
    LINEAR_ELEMENTWISE,
    MOVES,
    REDUCTIONS,
    word,
)

_SIGNED_ROOTS = frozenset(("sqrt", "rsqrt", "std", "norm", "linalg_vector_norm", "std_mean"))


@dataclass
class _Statistic:
    """A summary of a signal over some dimensions, and whether a root was taken of it."""

    of: int
    rooted: bool
    exponential: bool = False


@dataclass
class Regions:
    """Which tensors are elementwise functions of which signal."""

    reading: Reading
    origin: dict[int, int] = field(default_factory=dict)
    """Tensor -> the signal that it is an elementwise function of."""
    curved: set[int] = field(default_factory=set)
    """Tensors that are not linear in their origin."""
    normalised: dict[int, int] = field(default_factory=dict)
    """Operation index -> signal, for the last operation of a norm written by hand."""
    statistics: dict[int, _Statistic] = field(default_factory=dict)
    softmaxes: dict[int, int] = field(default_factory=dict)
    """Operation index -> signal, for a softmax written by hand."""

    def build(self) -> "Regions":
        """Go over the operations once."""
        for operation in self.reading.graph.operations:
            if operation.index not in self.reading.uses_at:
                self._add(operation)
        return self

    def root(self, tensor: int) -> int:
        """The signal that a tensor is an elementwise function of; itself for a fresh one."""
        return self.origin.get(tensor, tensor)

    def _add(self, operation: Operation) -> None:
        reading, name = self.reading, word(operation)
        members = [
            t
            for t in dict.fromkeys(operation.inputs)
            if t in reading.signals or t in self.origin or t in self.statistics
        ]
        if not members or not operation.outputs:
            return
        statistics = [t for t in members if t in self.statistics]
        plain = [t for t in members if t not in self.statistics]
        if name in REDUCTIONS and len(members) == 1:
            self._summarise(operation, name, members[0])
        elif not plain and (name in ELEMENTWISE or name in MOVES):
            self._refine(operation, name, statistics)
        elif name in ELEMENTWISE and statistics and len(plain) == 1:
            self._apply(operation, name, plain[0], statistics)
        elif name in ELEMENTWISE:
            self._extend(operation, name, plain)

    def _summarise(self, operation: Operation, name: str, tensor: int) -> None:
        known = self.statistics.get(tensor)
        rooted = name in _SIGNED_ROOTS or bool(known and known.rooted)
        maker = self.reading.graph.producer.get(tensor)
        exponential = maker is not None and word(maker) == "exp"
        of = known.of if known else self.root(tensor)
        for out in operation.outputs:
            self.statistics[out] = _Statistic(of, rooted, exponential)

    def _refine(self, operation: Operation, name: str, tensors: list[int]) -> None:
        known = [self.statistics[t] for t in tensors]
        if len({k.of for k in known}) != 1:
            return
        rooted = any(k.rooted for k in known) or name in ("sqrt", "rsqrt")
        if name == "pow":
            exponent = operation.args[1] if len(operation.args) > 1 else None
            rooted = rooted or exponent in (0.5, -0.5)
        exponential = any(k.exponential for k in known)
        for out in operation.outputs:
            self.statistics[out] = _Statistic(known[0].of, rooted, exponential)

    def _apply(self, operation: Operation, name: str, plain: int, statistics: list[int]) -> None:
        """A signal meets a summary: of itself, and it is centred or normalised; else neither."""
        known = [self.statistics[t] for t in statistics]
        root, out = self.root(plain), operation.outputs[0]
        own = all(k.of == root for k in known)
        if own and name in ("sub", "add", "rsub"):
            self.origin[out] = root
            self._bend(operation, name, [plain], out)
        elif own and name in ("mul", "div", "true_divide"):
            if any(k.exponential for k in known) and name != "mul":
                self.softmaxes[operation.index] = root
            elif name != "mul" or any(k.rooted for k in known):
                self.normalised[operation.index] = root

    def _extend(self, operation: Operation, name: str, members: list[int]) -> None:
        reading = self.reading
        roots = {self.root(t) for t in members}
        if len(roots) != 1:
            return
        root = roots.pop()
        for tensor in operation.inputs:
            if tensor in members:
                continue
            size = torch.Size(reading.shape(tensor)).numel()
            if tensor in reading.weights or size != 1:
                return
        for out in operation.outputs[:1]:
            if reading.shape(out) == reading.shape(root):
                self.origin[out] = root
                self._bend(operation, name, members, out)

    def _bend(self, operation: Operation, name: str, members: list[int], out: int) -> None:
        product = name in ("mul", "div", "pow", "addcmul", "addcdiv", "true_divide", "rdiv")
        of_itself = product and sum(t in members for t in operation.inputs) > 1
        inverse = name in ("div", "true_divide") and _is_first_number(operation)
        nonlinear = name not in LINEAR_ELEMENTWISE and name not in COPIES
        if nonlinear or of_itself or inverse or any(t in self.curved for t in members):
            self.curved.add(out)

    def _constant(self, tensor: int) -> float | None:
        """The number in a tensor that was filled with one, as ``torch.zeros(())`` is."""
        maker = self.reading.graph.producer.get(tensor)
        if maker is None:
            return None
        name = word(maker)
        value: Any = None
        if name in ("zeros", "zeros_like", "new_zeros"):
            value = 0.0
        elif name in ("ones", "ones_like", "new_ones"):
            value = 1.0
        elif name == "scalar_tensor":
            value = maker.args[0]
        elif name in ("full", "full_like") and len(maker.args) > 1:
            value = maker.args[1]
        return float(value) if isinstance(value, bool | int | float) else None

    def function(self, tensor: int) -> list[Operation]:
        """The operations between a tensor and its origin, in order."""
        root, front, found = self.root(tensor), [tensor], {}
        producer = self.reading.graph.producer
        while front:
            current = front.pop()
            maker = producer.get(current)
            if current == root or maker is None or maker.index in found:
                continue
            found[maker.index] = maker
            front.extend(t for t in maker.inputs if t in self.origin and t != root)
        return [found[index] for index in sorted(found)]

    def values(self, tensor: int, grid: torch.Tensor) -> torch.Tensor | None:
        """The region's function on a grid of numbers; None where it depends on more than that."""
        known: dict[int, Any] = {self.root(tensor): grid}
        for operation in self.function(tensor):
            function = getattr(torch.ops.aten, word(operation), None)
            overload = operation.overload or "default"
            packet = getattr(function, overload, None) or getattr(function, "default", None)
            if packet is None:
                return None
            for other in operation.inputs:
                number = None if other in known else self._constant(other)
                if number is not None:
                    known[other] = torch.tensor(number, dtype=grid.dtype)
                elif other not in known:
                    return None
            if word(operation) in COPIES:
                known[operation.outputs[0]] = known[operation.inputs[0]]
                continue
            try:
                made = packet(
                    *[_filled(value, known) for value in operation.args],
                    **{
                        key: _filled(value, known)
                        for key, value in operation.kwargs.items()
                        if key not in ("dtype", "device", "layout", "pin_memory", "memory_format")
                    },
                )
            except (RuntimeError, TypeError, ValueError):
                return None  # an operation that needs what the graph does not keep
            known[operation.outputs[0]] = made[0] if isinstance(made, tuple | list) else made
        result = known.get(tensor)
        return result if isinstance(result, torch.Tensor) else None


def _is_first_number(operation: Operation) -> bool:
    return bool(operation.args) and not isinstance(operation.args[0], Ref)


def _filled(value: Any, known: dict[int, Any]) -> Any:
    if isinstance(value, Ref):
        return known[value.tensor]
    if isinstance(value, tuple):
        return [_filled(item, known) for item in value]
    return value
