"""What has no rule is run: the recorded operation on samples that have its inputs' moments.

Nothing passes in silence: what is found this way is labelled ``sampled``, here and downstream.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from fanin.propagation.call import Call
from fanin.propagation.drawing import draw_like, drawn_inputs, run_on, runs_of
from fanin.propagation.layout import atoms_of
from fanin.propagation.profile import FLAT, Profile, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, given
from fanin.propagation.state import (
    State,
    distributed,
    gaussian,
    independent,
    measured,
    pair_moments_of,
)
from fanin.propagation.trails import bring_along

ENOUGH = 1 << 18
"""Elements that the runs of a small operation read and write together."""
MOST_RUNS = 32
_LEAST_RUNS, _CLEAR = 8, 6.0
"""Runs and multiple of the variance by chance from which powers along an axis count as known."""


def sample_forward(call: Call) -> list[State | None]:
    """Moments of the outputs by running the operation on samples of its inputs.

    Small operations are run many times, so that chance is small beside the moments.
    """
    times = _times(call)
    bring_along(call, times)
    read, runs = runs_of(call, times)
    if not runs:
        call.parts.note(f"{call.operation.name}: no rule, and not run; its output is a guess.")
        return [_guess(call, k) for k in range(len(call.operation.outputs))]
    call.parts.note(f"{call.operation.name}: sampled.")
    _keep_inputs(call, read)
    states: list[State | None] = []
    for k, out in enumerate(call.operation.outputs):
        results = [run[k] if k < len(run) else run[0] for run in runs]
        if any(tuple(result.shape) != call.graph.tensors[out].shape for result in results):
            states.append(_guess(call, k))
            continue
        if _is_small(results[0]):
            call.parts.samples[out] = results
            call.parts.made_of_samples.add(out)
        states.append(state_of(results))
    return states


def state_of(results: list[torch.Tensor]) -> State:
    """The moments of one output over its runs, labelled as sampled."""
    if results[0].is_floating_point() and len(results) > 1:
        return replace(pooled(results), sampled=True)
    keep = not results[0].is_floating_point()
    return replace(measured(results[0], keep=keep), sampled=True)


def _keep_inputs(call: Call, read: list[dict[int, torch.Tensor]]) -> None:
    """What was drawn stands for these tensors from now on, see ``sample_paths``."""
    call.parts.keep(call.operation, "sampled", True)
    for tensor in dict.fromkeys(call.operation.inputs):
        drawn = call.states[tensor].known is None and read[0][tensor].is_floating_point()
        if drawn and tensor not in call.parts.samples and _is_small(read[0][tensor]):
            call.parts.samples[tensor] = [tensors[tensor] for tensors in read]


def _is_small(tensor: torch.Tensor) -> bool:
    return tensor.numel() <= ENOUGH


def _times(call: Call) -> int:
    graph = call.graph
    held = [len(call.parts.samples[t]) for t in call.operation.inputs if t in call.parts.samples]
    if held:
        return min(held)
    shapes = [graph.tensors[t].shape for t in (*call.operation.inputs, *call.operation.outputs)]
    total = sum(torch.Size(s).numel() for s in shapes)
    return int(np.clip(ENOUGH // max(total, 1), 1, MOST_RUNS))


def pooled(results: list[torch.Tensor]) -> State:
    """One state from several runs: pairs averaged, powers along each axis where they differ."""
    one = measured(torch.stack(results).flatten(0, 1) if results[0].dim() else results[0],
                   keep=False)  # fmt: skip
    states = [measured(result, keep=False) for result in results]
    pairs = np.mean([state.pairs for state in states], axis=0)
    data = np.nan_to_num(torch.stack(results).double().numpy(), posinf=0.0, neginf=0.0)
    powers = _marginal_powers(data**2)
    made = gaussian(states[0].axes, float(data.mean()), pairs, profile=powers)
    return made if powers is not None else distributed(made, one.values)


def _marginal_powers(squares: Array) -> Profile:
    """Powers along each axis alone, where they differ by more than chance between the runs."""
    whole = float(squares.mean())
    runs, rank = squares.shape[0], squares.ndim - 1
    found: Array | None = None
    for axis in range(1, rank + 1):
        if squares.shape[axis] == 1 or whole <= 0:
            continue
        over = tuple(i for i in range(1, rank + 1) if i != axis)
        lines = squares.mean(axis=over) / whole
        level = lines.mean(axis=0)
        chance = float((lines.var(axis=0, ddof=1) / runs).mean())
        if runs < _LEAST_RUNS or float(level.var()) < _CLEAR * chance + FLAT**2:
            continue
        shape = [1] * rank
        shape[axis - 1] = -1
        found = level.reshape(shape) if found is None else found * level.reshape(shape)
    return None if found is None else settled(found)[0]


def _guess(call: Call, output: int) -> State:
    """The moments of the first float input, without its correlations."""
    shape = call.shape(output)
    if not call.kind(call.operation.outputs[output]).startswith(("float", "bfloat", "complex")):
        return _guessed_places(call, shape)
    for tensor in call.operation.inputs:
        state = call.states[tensor]
        if call.is_float(tensor):
            guess = independent(shape, state.mean, state.variance**0.5)
            return replace(guess, sampled=True)
    return replace(independent(shape, 0.0, 1.0), sampled=True)


def _guessed_places(call: Call, shape: tuple[int, ...]) -> State:
    """Places that data choose, as many as there were: distinct ones, spread evenly.

    ``nonzero`` lists the places of a tensor; each row is one of them.
    """
    source = call.graph.tensors[call.operation.inputs[0]].shape if call.operation.inputs else ()
    count = shape[0] if shape else 1
    total = max(torch.Size(source).numel(), 1)
    picks = np.random.default_rng(call.operation.index).permutation(max(total, count))[:count]
    places = np.sort(picks % total)
    if call.name == "nonzero" and len(shape) == 2 and shape[1] == len(source):
        rows = np.stack(np.unravel_index(places, source or (1,)), axis=1)
    else:
        rows = np.resize(places, shape)
    return replace(measured(torch.from_numpy(np.ascontiguousarray(rows)), keep=True), sampled=True)


def sample_backward(call: Call, totals: Mapping[int, Array]) -> list[Pass]:
    """Gradients of the inputs by automatic differentiation of one run on samples."""
    tensors = drawn_inputs(call)
    floats = [t for t in dict.fromkeys(call.operation.inputs) if call.is_float(t)]
    if tensors is None or not floats:
        return []
    for tensor in floats:
        tensors[tensor] = tensors[tensor].detach().clone().requires_grad_()
    with torch.enable_grad():
        results = run_on(call, tensors)
    if results is None:
        call.parts.note(f"{call.operation.name}: no gradient could be sampled behind it.")
        return []
    passes: list[Pass] = []
    for k, pairs in totals.items():
        if k >= len(results) or not results[k].requires_grad:
            continue
        state = call.made(k)
        drawn = draw_like(pairs, 0.0, atoms_of(state.axes), seed=call.operation.index)
        cotangent = torch.from_numpy(np.ascontiguousarray(drawn)).to(results[k].dtype)
        found = torch.autograd.grad(
            results[k],
            [tensors[t] for t in floats],
            cotangent.reshape(results[k].shape),
            retain_graph=True,
            allow_unused=True,
        )
        for tensor, gradient in zip(floats, found, strict=True):
            if gradient is None:
                continue
            moments = moments_under(gradient, call.states[tensor])
            passes.append(Pass(tensor, given(moments), None, k))
    return passes


def moments_under(gradient: torch.Tensor, state: State) -> Array:
    """Pair moments of a tensor's gradient, as its state counts pairs."""
    data = gradient.detach().double().reshape(atoms_of(state.axes)).numpy()
    return pair_moments_of(np.nan_to_num(data))
