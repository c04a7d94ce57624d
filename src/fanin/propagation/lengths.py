"""Lengths that data choose: what was read out as a number is known to have been that number.

A model that reads an integer from its own signals, such as the sum of its durations, and makes a
tensor as long as that, was recorded with one such length. Where the graph has 42 frames, durations
add up to 42, whatever they are on average: samples of them are drawn many times, and those are
kept whose result comes nearest to what was read (rejection sampling: Rubin, Bayesianly
justifiable and relevant frequency calculations, 1984). What follows runs on these samples.
"""

import torch

from fanin.graph.graph import Graph, Operation
from fanin.propagation.call import Call, CallParts
from fanin.propagation.running import run_drawn
from fanin.propagation.sampling import MOST_RUNS
from fanin.propagation.state import State, measured
from fanin.propagation.trails import MOST_STEPS, is_followed

READ_OUT = "_local_scalar_dense"
"""The operation by which a model reads a number out of a tensor."""
_DRAWS = 1 << 15
_MOST_ELEMENTS = 1 << 22
_SUMMED_UP = frozenset({"sum", "max", "amax", "min", "amin", "cumsum"})


def as_long_as_recorded(
    graph: Graph, operation: Operation, states: dict[int, State], parts: CallParts
) -> None:
    """Hold samples of what a number was made of, as it was in the recorded run.

    Args:
        graph: what ran.
        operation: reads a number out of a tensor.
        states: of every tensor before; the tensor that was read becomes known.
        parts: holds what was read and receives the samples.
    """
    (tensor,) = operation.inputs
    value = parts.read_out.get(tensor)
    if value is None or graph.tensors[tensor].dtype != "int64":
        return
    trail = _trail(graph, states, parts, tensor)
    runs = _runs(graph, trail)
    if not trail or runs < MOST_RUNS:
        return
    drawn = CallParts()
    drawn.weights = parts.weights
    for step in trail:
        found = run_drawn(Call(graph, step, states, drawn), runs)
        if found is None or found[1][0] is None:
            return
        drawn.samples.update(found[0].varying)
        drawn.samples[step.outputs[0]] = found[1][0]
    results = drawn.samples[tensor].reshape(runs, -1)
    nearest = (results[:, 0] - value).abs().argsort(stable=True)[:MOST_RUNS]
    for held, samples in drawn.samples.items():
        parts.samples[held] = samples[nearest]
        if not samples.is_floating_point():
            parts.made_of_samples.add(held)
    states[tensor] = measured(torch.tensor(value).reshape(graph.tensors[tensor].shape), keep=True)
    parts.note(f"{operation.module or 'the model'} read a length of {value} from its own signals: "
               "samples of what it was made of are those that give it.")  # fmt: skip


def _trail(
    graph: Graph, states: dict[int, State], parts: CallParts, tensor: int
) -> list[Operation]:
    """Operations from the last weights to this tensor; none where they cannot be run again."""
    found: dict[int, Operation] = {}
    waiting = [tensor]
    while waiting:
        current = waiting.pop()
        operation = graph.producer.get(current)
        if operation is not None and operation.index in found:
            continue
        if current in parts.samples and current != tensor and current in parts.made_of_samples:
            return []  # drawn before, for another reason
        followed = operation is not None and is_followed(graph, operation, _SUMMED_UP)
        if operation is None or not followed or any(t not in states for t in operation.inputs):
            if not graph.tensors[current].dtype.startswith(("float", "bfloat")):
                return []
            continue
        found[operation.index] = operation
        if len(found) > MOST_STEPS:
            return []
        waiting += [t for t in operation.inputs if states[t].known is None]
    return [found[k] for k in sorted(found)]


def _runs(graph: Graph, trail: list[Operation]) -> int:
    largest = max((torch.Size(graph.tensors[t].shape).numel() for step in trail
                   for t in (*step.inputs, *step.outputs)), default=0)  # fmt: skip
    return min(_DRAWS, _MOST_ELEMENTS // max(largest, 1))
