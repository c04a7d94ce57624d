"""Samples that are carried on from one operation to the next.

A softmax written out over the edges of a graph divides exp(x − max) by its own sum, and a router's
chosen weights by theirs: numbers drawn afresh for each operation would be strangers there.  What an
operation without a rule read and made is therefore kept, run by run, and what follows is run on it
too, as long as it reads nothing else: the next matrix of weights ends the path.  What was made from
its outputs has the moments of these runs; what reads only the numbers that it read keeps its rule.
Backwards, derivatives go along the same runs.
"""

from collections.abc import Mapping

import numpy as np
import torch

from fanin.propagation.call import Call
from fanin.propagation.drawing import draw_like, drawn_inputs, run_on, runs_of
from fanin.propagation.layout import atoms_of
from fanin.propagation.quadrature import Array
from fanin.propagation.sampling import moments_under, state_of
from fanin.propagation.state import State

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
    count = min(len(samples[t]) for t in inputs if t in samples)
    read, made = runs_of(call, count)
    if len(made) < count or not all(_fits(call, found) for found in made):
        return outcomes
    for tensor in joined:
        samples.setdefault(tensor, [tensors[tensor] for tensors in read])
    for k, out in enumerate(call.operation.outputs):
        samples[out] = [found[min(k, len(found) - 1)] for found in made]
    if not any(t in call.parts.made_of_samples for t in inputs):
        return outcomes
    call.parts.made_of_samples.update(call.operation.outputs)
    return [state_of(samples[out]) for out in call.operation.outputs]


def on_path(call: Call) -> bool:
    """Whether the gradient of an operation goes along its samples."""
    parts, operation = call.parts, call.operation
    if not any(t in parts.samples for t in operation.outputs):
        return False
    if not any(t in parts.samples and call.is_float(t) for t in operation.inputs):
        return False
    made = any(t in parts.made_of_samples for t in operation.outputs)
    return made or any(t in parts.sample_gradients for t in operation.outputs)


def path_backward(call: Call, outside: Mapping[int, Array]) -> dict[int, Array]:
    """Pair moments of the gradients that the inputs have received along samples so far.

    Args:
        call: an operation on a path.
        outside: output → pair moments of the gradient that reaches it from elsewhere.
    """
    parts, operation = call.parts, call.operation
    floats = [t for t in dict.fromkeys(operation.inputs)
              if t in parts.samples and call.is_float(t)]  # fmt: skip
    count = min(len(parts.samples[t]) for t in (*floats, *operation.outputs) if t in parts.samples)
    for again in range(count):
        tensors = drawn_inputs(call, again)
        if tensors is None:
            return {}
        for tensor in floats:
            tensors[tensor] = tensors[tensor].detach().clone().requires_grad_()
        with torch.enable_grad():
            results = run_on(call, tensors)
        ways = _cotangents(call, results or [], outside, again)
        if not ways:
            return {}
        found = torch.autograd.grad(
            [result for result, _ in ways], [tensors[t] for t in floats],
            [cotangent for _, cotangent in ways], allow_unused=True,
        )  # fmt: skip
        for tensor, gradient in zip(floats, found, strict=True):
            held = parts.sample_gradients.setdefault(tensor, [])
            sent = torch.zeros_like(tensors[tensor]) if gradient is None else gradient
            if again < len(held):
                held[again] = held[again] + sent
            else:
                held.append(sent)
    return {
        t: np.mean([moments_under(g, call.states[t]) for g in parts.sample_gradients[t]], axis=0)
        for t in floats
    }


def _cotangents(
    call: Call, results: list[torch.Tensor], outside: Mapping[int, Array], again: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Outputs with the gradient that reaches them: of this run, and drawn where it is foreign."""
    ways = []
    for k, (out, result) in enumerate(zip(call.operation.outputs, results, strict=False)):
        if not result.requires_grad:
            continue
        cotangent = torch.zeros_like(result)
        held = call.parts.sample_gradients.get(out, [])
        if again < len(held):
            cotangent = cotangent + held[again].reshape(result.shape)
        if k in outside:
            seed = call.operation.index + (again << 32)
            drawn = _foreign(outside[k], atoms_of(call.states[out].axes), seed)
            cotangent = cotangent + torch.from_numpy(drawn).to(result).reshape(result.shape)
        ways.append((result, cotangent))
    return ways


def _foreign(pairs: Array, atoms: tuple[int, ...], seed: int) -> Array:
    """A gradient with these pair moments; that of a single number is as large as it is."""
    if not atoms:
        return np.full((), float(pairs.flat[0]) ** 0.5)
    return np.ascontiguousarray(draw_like(pairs, 0.0, atoms, seed))


def _of_drawn_base(call: Call, tensor: int) -> bool:
    """Whether a tensor is a function of numbers that were drawn for another."""
    state = call.states[tensor]
    fixed = state.known is not None or state.base.std == 0.0
    return not fixed and call.is_float(tensor) and state.base.key in call.parts.drawn


def _is_fixed(state: State) -> bool:
    return state.known is not None or state.is_constant


def _fits(call: Call, results: list[torch.Tensor]) -> bool:
    shapes = [call.graph.tensors[t].shape for t in call.operation.outputs]
    return all(tuple(results[min(k, len(results) - 1)].shape) == s for k, s in enumerate(shapes))
