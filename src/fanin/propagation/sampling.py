"""What has no rule is run: the recorded operation on samples that have its inputs' moments.

Nothing passes in silence: what is found this way is labelled ``sampled``, here and downstream.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from fanin.propagation.call import Call
from fanin.propagation.chance import by_chance
from fanin.propagation.data_moments import pair_moments_of, quantiles_of
from fanin.propagation.drawing import Drawn, draw_like, drawn_inputs
from fanin.propagation.layout import atoms_of, plain_axes
from fanin.propagation.profile import FLAT, Profile, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, given
from fanin.propagation.running import differentiated, run_drawn
from fanin.propagation.state import State, constant, distributed, gaussian, independent, measured
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
    found = run_drawn(call, times)
    if found is None:
        call.parts.note(f"{call.operation.name}: no rule, and not run; its output is a guess.")
        return [_guess(call, k) for k in range(len(call.operation.outputs))]
    call.parts.note(f"{call.operation.name}: sampled.")
    drawn, made = found
    _keep_inputs(call, drawn)
    states: list[State | None] = []
    for k, out in enumerate(call.operation.outputs):
        result = made[min(k, len(made) - 1)]
        if result is None or tuple(result.shape[1:]) != call.graph.tensors[out].shape:
            states.append(_guess(call, k))
            continue
        places = not result.is_floating_point() and by_chance(call.graph, out)
        if _is_small(result[0]) and not places:
            call.parts.samples[out] = result
            call.parts.made_of_samples.add(out)
        states.append(state_of(result))
    return states


def state_of(results: torch.Tensor) -> State:
    """The moments of one output over its runs ``(runs, *shape)``, labelled as sampled."""
    if results.numel() == 0:
        return replace(constant(results.shape[1:], 0.0), sampled=True)
    if results.is_floating_point() and len(results) > 1:
        return replace(pooled(results), sampled=True)
    keep = not results.is_floating_point()
    return replace(measured(results[0], keep=keep), sampled=True)


def _keep_inputs(call: Call, drawn: Drawn) -> None:
    """What was drawn stands for these tensors from now on, see ``sample_paths``."""
    call.parts.keep(call.operation, "sampled", True)
    for tensor, value in drawn.varying.items():
        if value.is_floating_point() and _is_small(value[0]):
            call.parts.samples.setdefault(tensor, value)


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


def pooled(results: torch.Tensor) -> State:
    """One state from several runs: pairs averaged, powers along each axis where they differ."""
    data = np.nan_to_num(results.double().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
    axes = plain_axes(results.shape[1:])
    sizes = [n for n in results.shape[1:] if n != 1]
    pairs = pair_moments_of(data.reshape(len(data), *sizes), runs=1)
    powers = marginal_powers(data**2)
    made = gaussian(axes, float(data.mean()), pairs, profile=powers)
    return made if powers is not None else distributed(made, quantiles_of(data))


def marginal_powers(squares: Array) -> Profile:
    """Powers along each axis alone, where they differ by more than chance between the runs."""
    whole = float(squares.mean())
    runs, rank = squares.shape[0], squares.ndim - 1
    found: Array | None = None
    if runs < _LEAST_RUNS or whole <= 0:
        return None
    for axis in range(1, rank + 1):
        if squares.shape[axis] == 1:
            continue
        over = tuple(i for i in range(1, rank + 1) if i != axis)
        lines = squares.mean(axis=over) / whole
        level = lines.mean(axis=0)
        chance = float((lines.var(axis=0, ddof=1) / runs).mean())
        if float(level.var()) < _CLEAR * chance + FLAT**2:
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
    """Gradients of the inputs by automatic differentiation of runs on samples."""
    drawn = drawn_inputs(call, _times(call))
    if drawn is None:
        return []
    passes: list[Pass] = []
    for k, pairs in totals.items():

        def reaching(output: int, value: torch.Tensor, k: int = k, pairs: Array = pairs
                     ) -> torch.Tensor | None:  # fmt: skip
            if output != k:
                return None
            seed, atoms = call.operation.index, atoms_of(call.made(k).axes)
            numbers = draw_like(pairs, 0.0, atoms, seed, len(value))
            return torch.from_numpy(numbers).reshape(value.shape)

        for tensor, gradient in (differentiated(call, drawn, reaching) or {}).items():
            if gradient.numel() == 0:
                continue
            moments = moments_under(gradient, call.states[tensor])
            passes.append(Pass(tensor, given(moments), None, k))
    if not passes:
        call.parts.note(f"{call.operation.name}: no gradient could be sampled behind it.")
    return passes


def moments_under(gradients: torch.Tensor, state: State) -> Array:
    """Pair moments of a tensor's gradients ``(runs, *shape)``, as its state counts pairs."""
    atoms = atoms_of(state.axes)
    data = gradients.detach().double().reshape(len(gradients), *atoms).numpy()
    return pair_moments_of(np.nan_to_num(data), runs=1)
