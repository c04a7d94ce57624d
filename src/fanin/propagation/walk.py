"""The forward walk: the states of all tensors of a graph, in order of running."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import (
    CANNOT_RUN,
    Call,
    CallParts,
    rebuilt_arguments,
    resolve,
)
from fanin.propagation.families.pointwise import pointwise_forward
from fanin.propagation.lengths import READ_OUT, as_long_as_recorded
from fanin.propagation.nearness_kept import keep_nearness
from fanin.propagation.nothing import made_of_nothing, without_nothing
from fanin.propagation.registry import Outcome, forward_rule, leaves_parts
from fanin.propagation.sample_paths import carry_on, in_loop, made_of_runs
from fanin.propagation.sampling import sample_forward
from fanin.propagation.signs import with_its_sign
from fanin.propagation.state import State, constant, independent, measured
from fanin.propagation.trails import orders_running_sums

MOST_KNOWN = 1 << 22
"""Constants of more elements are carried as moments, not as values."""


def walk_forward(
    graph: Graph,
    states: dict[int, State],
    observed: Mapping[int, torch.Tensor],
    parts: CallParts,
    derived: Mapping[int, State] | None = None,
) -> dict[int, State]:
    """States of every tensor, given those of parameters, buffers, inputs and constants.

    Args:
        graph: what ran.
        states: states at the start, by tensor id; filled in place and returned.
        observed: values that were seen to depend on neither weights nor real data.
        parts: receives what the backward walk needs, and notes.
        derived: exact moments of values computed from weights alone.
    """
    same = _Repeats()
    for operation in graph.operations:
        if operation.outputs:
            earlier = same.earlier(operation)
            if earlier is not None and all(out in states for out in earlier):
                # The same operation on the same tensors makes the same numbers again.
                for out, twin in zip(operation.outputs, earlier, strict=True):
                    states[out] = states[twin]
                parts.repeat(operation, graph.producer[earlier[0]])
                continue
            _step(graph, operation, states, observed, parts)
            for out in operation.outputs:
                if derived and out in derived:
                    states[out] = derived[out]
        elif operation.name == READ_OUT:
            as_long_as_recorded(graph, operation, states, parts)
    return states


class _Repeats:
    """Operations that were run before with the very same arguments."""

    def __init__(self) -> None:
        self._first: dict[Any, tuple[int, ...]] = {}
        self._stands_for: dict[int, int] = {}

    def earlier(self, operation: Operation) -> tuple[int, ...] | None:
        """Outputs of the first such operation; None if this is the first."""
        if any(word in operation.name for word in (*_RANDOM, *_EMPTY)):
            return None
        key = (
            operation.name, operation.overload, self._plain(operation.args),
            tuple(sorted((k, self._plain(v)) for k, v in operation.kwargs.items())),
        )  # fmt: skip
        try:
            found = self._first.setdefault(key, operation.outputs)
        except TypeError:
            return None
        if found is operation.outputs or len(found) != len(operation.outputs):
            return None
        self._stands_for.update(zip(operation.outputs, found, strict=True))
        return found

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return ("tensor", self._stands_for.get(value.tensor, value.tensor))
        if isinstance(value, tuple):
            return tuple(self._plain(item) for item in value)
        # 1 and True, 0 and 0.0 are equal as keys and not as arguments.
        return (type(value).__name__, repr(value))


def _step(
    graph: Graph,
    operation: Operation,
    states: dict[int, State],
    observed: Mapping[int, torch.Tensor],
    parts: CallParts,
) -> None:
    for tensor in operation.inputs:
        if tensor not in states:
            states[tensor] = sample_unknown(graph, tensor, parts)
    call = Call(graph, operation, states, parts)
    if all(out in observed for out in operation.outputs):
        for out in operation.outputs:
            states[out] = measured(observed[out], keep=True)
        return
    folded = _folded(call)
    if folded is not None:
        rule = forward_rule(call.name) if leaves_parts(call.name) else None
        if rule is not None:
            rule(call)
        known = [measured(value, keep=True) for value in folded]
        for out, state in zip(operation.outputs, carry_on(call, [*known]), strict=False):
            if state is not None:
                states[out] = state
        return
    if operation in parts.recurrences and in_loop(call):
        for out, state in zip(operation.outputs, made_of_runs(call), strict=True):
            if state is not None:
                states[out] = state
        return
    outcome: Outcome | None = made_of_nothing(call)
    if outcome is None:
        rule = None if orders_running_sums(call) else forward_rule(call.name) or pointwise_forward
        outcome = None if rule is None else rule(call)
    if outcome is None:
        outcome = sample_forward(call)
    outcomes = [outcome] if isinstance(outcome, State) else list(outcome)
    inherited = any(states[t].sampled for t in operation.inputs)
    # An in-place operation lists the tensor it returns once; extra outputs hold the same value.
    outcomes += [outcomes[0]] * (len(operation.outputs) - len(outcomes))
    outcomes = without_nothing(call, outcomes)
    if not parts.kept(operation, "sampled"):
        outcomes = carry_on(call, outcomes)
    keep_nearness(call, outcomes[0])
    for out, state in zip(operation.outputs, outcomes, strict=False):
        if state is not None:
            state = with_its_sign(call, state)  # noqa: PLW2901
            rests = inherited and state.known is None
            states[out] = replace(state, sampled=True) if rests else state


def sample_unknown(graph: Graph, tensor: int, parts: CallParts) -> State:
    """A tensor of which nothing is known: standard normal numbers or zeros, and a note."""
    info = graph.tensors[tensor]
    if 0 in info.shape:
        return constant(info.shape, 0.0)
    parts.note(
        f"tensor {tensor} ({info.dtype}{list(info.shape)}) has no known value: taken as "
        + ("N(0, 1)." if info.dtype.startswith(("float", "bfloat")) else "zeros.")
    )
    if info.dtype.startswith(("float", "bfloat")):
        return replace(independent(info.shape, 0.0, 1.0), sampled=True)
    return replace(measured(torch.zeros(info.shape), keep=True), sampled=True)


_RANDOM = ("bernoulli", "dropout", "rand", "normal", "uniform", "multinomial", "exponential")
_EMPTY = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")


def _folded(call: Call) -> list[torch.Tensor] | None:
    """The exact outputs of an operation on constants: positions, masks, index arithmetic."""
    operation = call.operation
    if operation.overload == "shared_memory" or call.name in _EMPTY:
        return None
    if any(word in call.name for word in _RANDOM):
        return None
    if any(call.states[t].known is None for t in operation.inputs):
        return None
    sizes = [call.shape(k) for k in range(len(operation.outputs))]
    if any(torch.Size(s).numel() > MOST_KNOWN for s in sizes):
        return None
    function = resolve(operation.name, operation.overload)
    if function is None:
        return None
    tensors: dict[int, torch.Tensor] = {
        t: value for t in operation.inputs if (value := call.states[t].known) is not None
    }
    args, kwargs = rebuilt_arguments(operation, tensors)
    try:
        with torch.no_grad():
            result: Any = function(*args, **kwargs)
    except CANNOT_RUN:
        # Not a constant after all: dtypes or devices that this machine's CPU cannot mix.
        return None
    values = [result] if isinstance(result, torch.Tensor) else list(result)
    if len(values) < len(sizes):
        values += [values[0]] * (len(sizes) - len(values))
    fits = all(
        isinstance(value, torch.Tensor) and tuple(value.shape) == size
        for value, size in zip(values, sizes, strict=False)
    )
    return values if fits else None
