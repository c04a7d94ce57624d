"""Samples that are carried on from one operation to the next.

A softmax written out over the edges of a graph divides exp(x − max) by its own sum, and a router's
chosen weights by theirs: numbers drawn afresh for each operation would be strangers there.  What an
operation without a rule read and made is therefore kept, run by run, and what follows is run on it
too, as long as it reads nothing else: the next matrix of weights ends the path.  What was made from
its outputs has the moments of these runs; what reads only the numbers that it read keeps its rule.
Loops are run whole, weights and all: see ``recurrences``.  Backwards, derivatives go along the same
runs.
"""

from collections.abc import Mapping

import numpy as np
import torch

from fanin.propagation.call import Call
from fanin.propagation.drawing import Drawn, draw_like, drawn_inputs
from fanin.propagation.layout import atoms_of
from fanin.propagation.profile import Profile, even
from fanin.propagation.quadrature import Array
from fanin.propagation.running import differentiated, run_drawn
from fanin.propagation.sampling import state_of
from fanin.propagation.state import State, overlaps

MOST_CARRIED = 1 << 19
"""Operations on more elements end a path."""
_OWN_CHANCE = ("bernoulli", "dropout", "rand", "normal", "uniform", "multinomial", "exponential",
               "empty")  # fmt: skip


def carry_on(call: Call, outcomes: list[State | None]) -> list[State | None]:
    """Run an operation on the samples that reach it; states from the runs of what they made."""
    samples = call.parts.samples
    inputs = tuple(dict.fromkeys(call.operation.inputs))
    if not any(t in samples for t in inputs) or any(w in call.name for w in _OWN_CHANCE):
        return outcomes
    joined = [t for t in inputs if t in samples or _of_drawn_base(call, t)]
    shapes = [call.graph.tensors[t].shape for t in (*inputs, *call.operation.outputs)]
    if sum(torch.Size(s).numel() for s in shapes) > MOST_CARRIED:
        return outcomes
    if any(t not in joined and not _is_fixed(call.states[t]) for t in inputs):
        return outcomes
    found = run_drawn(call, min(len(samples[t]) for t in inputs if t in samples))
    if found is None or not keep_runs(call, *found, inputs=joined):
        return outcomes
    if not any(t in call.parts.made_of_samples for t in inputs):
        return outcomes
    return made_of_runs(call)


def in_loop(call: Call) -> bool:
    """Run an operation of a loop, or of the ways into it, on samples of all that it reads.

    Returns:
        Whether its results rest on these runs; False for views of weights and ways in, whose rules
        hold.
    """
    parts, loops = call.parts, call.parts.recurrences
    inputs = tuple(dict.fromkeys(call.operation.inputs))
    runs = min((len(parts.samples[t]) for t in inputs if t in parts.samples), default=loops.runs)
    found = run_drawn(call, runs, in_loop=True)
    if found is None or not keep_runs(call, *found, inputs=[*inputs]):
        return False
    made = any(t in parts.made_of_samples for t in inputs)
    return made or call.operation.index in loops.loops


def keep_runs(call: Call, drawn: Drawn, made: list[torch.Tensor | None], inputs: list[int]) -> bool:
    """Hold what these inputs and all outputs were; False where the shapes are not the recorded.

    Scratch memory, which holds no real numbers, may come in any size.
    """
    samples, outputs = call.parts.samples, call.operation.outputs
    results = [made[min(k, len(made) - 1)] if made else None for k in range(len(outputs))]
    for k, out in enumerate(outputs):
        result = results[k]
        if result is None or tuple(result.shape[1:]) != call.graph.tensors[out].shape:
            if call.is_float(out) or k == 0:
                return False
            results[k] = None
    for tensor in inputs:
        if tensor in drawn.varying:
            samples.setdefault(tensor, drawn.varying[tensor])
    samples.update((out, r) for out, r in zip(outputs, results, strict=True) if r is not None)
    return True


def made_of_runs(call: Call) -> list[State | None]:
    """States of the outputs from the runs that are held of them."""
    samples, outputs = call.parts.samples, call.operation.outputs
    call.parts.made_of_samples.update(outputs)
    return [state_of(samples[out]) if out in samples else None for out in outputs]


def on_path(call: Call) -> bool:
    """Whether the gradient of an operation goes along its samples."""
    parts, operation = call.parts, call.operation
    if not any(t in parts.samples for t in operation.outputs):
        return False
    if not any(t in parts.samples and call.is_float(t) for t in operation.inputs):
        return False
    made = any(t in parts.made_of_samples for t in operation.outputs)
    return made or any(t in parts.sample_gradients for t in operation.outputs)


def path_backward(call: Call, outside: Mapping[int, tuple[Array, Profile]]) -> list[int]:
    """Send gradients back along the runs.

    Args:
        call: an operation on a path.
        outside: output number → pair moments and profile of the gradient that reaches it from
            elsewhere.

    Returns:
        The tensors that received something.
    """
    parts, operation = call.parts, call.operation
    if call.name in ("bernoulli", "detach"):  # drawn whatever it is written over; cut off
        return []
    tensors = (*operation.inputs, *operation.outputs)
    held = [len(parts.samples[t]) for t in tensors if t in parts.samples]
    held += [len(parts.sample_gradients[t]) for t in operation.outputs
             if t in parts.sample_gradients]  # fmt: skip
    drawn = drawn_inputs(call, min(held), in_loop=operation in parts.recurrences)
    if drawn is None:
        return []

    def reaching(k: int, value: torch.Tensor) -> torch.Tensor | None:
        """What came back along the runs, and a draw of what is foreign to them."""
        out = operation.outputs[min(k, len(operation.outputs) - 1)]
        cotangent = torch.zeros_like(value)
        if out in parts.sample_gradients:
            cotangent += parts.sample_gradients[out][: len(value)].reshape(value.shape)
        if k in outside:
            numbers = _foreign(*outside[k], call.states[out], call.operation.index, len(value))
            cotangent = cotangent + torch.from_numpy(numbers).to(value).reshape(value.shape)
        return cotangent

    received = differentiated(call, drawn, reaching) or {}
    reached = []
    for tensor, gradient in received.items():
        if gradient.numel() == 0:
            continue
        if tensor not in parts.samples and not call.graph.tensors[tensor].of_parameters:
            continue
        earlier = parts.sample_gradients.get(tensor)
        if earlier is not None:
            runs = min(len(earlier), len(gradient))
            gradient = earlier[:runs] + gradient[:runs]  # noqa: PLW2901
        parts.sample_gradients[tensor] = gradient
        reached.append(tensor)
    return reached


def _foreign(pairs: Array, profile: Profile, state: State, seed: int, runs: int) -> Array:
    """A gradient with these moments; that of a single number is as large as it is."""
    atoms = atoms_of(state.axes)
    if not atoms:
        return np.full(runs, float(pairs.flat[0]) ** 0.5)
    if profile is None:
        return draw_like(pairs, 0.0, atoms, seed, runs)
    roots = np.sqrt(even(profile, len(state.axes)))
    drawn = draw_like(pairs / overlaps(roots, state.axes), 0.0, atoms, seed, runs)
    return np.ascontiguousarray(drawn.reshape(runs, *state.shape) * roots)


def _of_drawn_base(call: Call, tensor: int) -> bool:
    """Whether a tensor is a function of numbers that were drawn for another."""
    state = call.states[tensor]
    fixed = state.known is not None or state.base.std == 0.0
    return not fixed and call.is_float(tensor) and state.base.key in call.parts.drawn


def _is_fixed(state: State) -> bool:
    return state.known is not None or state.is_constant
