"""Tensors that have one sign by construction: sums of decays are no Gaussians about their mean.

−Δ·exp(A) and its running sums are never positive, and e to them never above 1, however large their
spread is beside their mean; a Gaussian of that mean and spread would be.
"""

from collections.abc import Mapping

import torch

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.algebra import one_signed
from fanin.propagation.call import Call, functional_name
from fanin.propagation.state import State

MOST_STEPS = 60
_POSITIVE = {"exp", "softplus", "sigmoid", "relu", "abs", "square", "sqrt", "rsqrt", "_softmax"}
_KEEPING = {
    "view", "_unsafe_view", "reshape", "transpose", "permute", "unsqueeze", "squeeze", "expand",
    "_to_copy", "clone", "contiguous", "alias", "detach", "slice", "select", "constant_pad_nd",
    "mean", "sum", "cumsum", "split", "unbind", "clamp_min", "clamp",
}  # fmt: skip
_MADE_GAUSSIAN = {"add", "sub", "masked_fill", "where", "cumsum", "sum", "mean"}
"""Operations whose rules say nothing about the sign of what they make."""
_NOTABLE = 1e-3
"""Share of E[x²] that the squared mean of a tensor of one sign has at least, but for rare ones."""


def with_its_sign(call: Call, state: State) -> State:
    """The state of what an operation made: with one sign, where its operands say so."""
    crosses = float(state.values.min()) < 0 < float(state.values.max())
    if call.name not in _MADE_GAUSSIAN or not crosses or state.known is not None:
        return state
    if state.mean**2 < _NOTABLE * state.second_moment:
        return state
    finder = _Signs(call.graph, call.states)
    return one_signed(state) if finder.of_operation(call.operation) else state


class _Signs:
    def __init__(self, graph: Graph, states: Mapping[int, State]) -> None:
        self.graph, self.states, self.left = graph, states, MOST_STEPS

    def of(self, tensor: int) -> int:
        """1, −1, or 0 where both signs may occur; zeros have either."""
        state = self.states.get(tensor)
        if state is not None and state.known is not None:
            known = state.known
            if known.dtype == torch.bool or known.is_complex():
                return 0
            return 1 if bool((known >= 0).all()) else -1 if bool((known <= 0).all()) else 0
        maker = self.graph.producer.get(tensor)
        self.left -= 1
        return 0 if maker is None or self.left < 0 else self.of_operation(maker)

    def of_operation(self, operation: Operation) -> int:
        """The sign of what it makes."""
        name, args = functional_name(operation.name), operation.args
        if name in _POSITIVE:
            return 1
        if not args:
            return 0
        first = self._of(args[0])
        if name in _KEEPING:
            return first
        if name == "neg":
            return -first
        if name in ("mul", "div") and len(args) > 1:
            return first * self._of(args[1])
        if name == "add" and len(args) > 1 and not operation.kwargs:
            return first if first == self._of(args[1]) else 0
        if name == "sub" and len(args) > 1:
            return first if self._ends_of_one_sum(args[0], args[1]) else 0
        if name in ("masked_fill", "where"):
            filled = args[2] if name == "masked_fill" else args[1]
            other = args[0] if name == "masked_fill" else args[2]
            kept, value = self._of(other), self._of(filled)
            return kept or value if 0 in (self._zero(filled), self._zero(other)) else 0
        return 0

    def _zero(self, value: object) -> int:
        """0 where a filled value leaves the sign of the rest: 0, or a mask's −∞."""
        if isinstance(value, Ref):
            state = self.states[value.tensor]
            return 0 if state.is_constant and state.mean == 0.0 else 1
        return 0 if value in (0, 0.0, float("-inf")) else 1

    def _of(self, value: object) -> int:
        if isinstance(value, Ref):
            return self.of(value.tensor)
        if isinstance(value, int | float):
            return (value > 0) - (value < 0)
        return 0

    def _ends_of_one_sum(self, one: object, two: object) -> bool:
        """Σ over all places less Σ up to one: what is left is a sum of the same numbers."""
        if not (isinstance(one, Ref) and isinstance(two, Ref)):
            return False
        source = self._running_sum(one.tensor)
        return source is not None and source == self._running_sum(two.tensor)

    def _running_sum(self, tensor: int) -> int | None:
        for _ in range(8):
            maker = self.graph.producer.get(tensor)
            if maker is None or not isinstance(maker.args[0], Ref):
                return None
            if functional_name(maker.name) == "cumsum":
                return tensor
            if functional_name(maker.name) not in _KEEPING - {"mean", "sum"}:
                return None
            tensor = maker.args[0].tensor
        return None
