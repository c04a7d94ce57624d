"""Dropout, fused and in parts, and other random masks."""

import numpy as np

from fanin.propagation.algebra import scaled
from fanin.propagation.call import Call
from fanin.propagation.factors import by_factor, mover
from fanin.propagation.layout import atoms_of, plain_axes
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, gaussian, independent


def coin(shape: tuple[int, ...], probability: float) -> State:
    """Independent 0/1 numbers."""
    axes = plain_axes(shape)
    pairs = np.full((2,) * len(atoms_of(axes)), probability**2)
    pairs.flat[0] = probability
    return gaussian(axes, probability, pairs)


@forward("bernoulli")
def bernoulli(call: Call) -> State:
    """One coin per element."""
    p = call.raw(1, "p", None)
    probability = float(p) if isinstance(p, int | float) else call.state(0).mean
    return coin(call.shape(), min(max(probability, 0.0), 1.0))


@forward("native_dropout", "dropout", "_fused_dropout")
def dropout(call: Call) -> list[State | None]:
    """Inverted dropout: q / (1 − p)."""
    from fanin.propagation.algebra import multiplied

    state = call.state(0)
    p, training = float(call.raw(1)), call.raw(2, "train", True)
    if training is False or p == 0.0:
        out = state
    elif p >= 1.0:
        out = scaled(state, 0.0)
    else:
        out = multiplied(state, scaled(coin(call.shape(), 1 - p), 1 / (1 - p)))
    return [out, *[None] * (len(call.operation.outputs) - 1)]


@backward("native_dropout", "dropout", "_fused_dropout")
def dropout_backward(call: Call) -> list[Pass]:
    """The same mask."""
    tensor = call.tensor(0)
    if tensor is None:
        return []
    made, state = call.made(), call.state(0)
    p, training = float(call.raw(1)), call.raw(2, "train", True)
    move = mover(made.axes, state.axes)
    if training is False or p == 0.0:
        return [Pass(tensor, move, 1.0)]
    return by_factor(tensor, state, made, scaled(coin(call.shape(), 1 - p), 1 / (1 - p)))


@forward("rand", "rand_like", "uniform")
def uniform(call: Call) -> State:
    """U(low, high) noise."""
    low, high = (
        (float(call.raw(1, "from", 0.0)), float(call.raw(2, "to", 1.0)))
        if call.name == "uniform"
        else (0.0, 1.0)
    )
    return independent(call.shape(), (low + high) / 2, (high - low) / 12**0.5)


@forward("randn", "randn_like", "normal", "normal_functional")
def normal(call: Call) -> State:
    """Gaussian noise."""
    if call.name.startswith("randn") or call.operation.overload.startswith("Tensor"):
        return independent(call.shape(), 0.0, 1.0)
    return independent(
        call.shape(), float(call.raw(1, "mean", 0.0)), float(call.raw(2, "std", 1.0))
    )


@backward("bernoulli", "rand", "rand_like", "uniform", "randn", "randn_like", "normal",
          "normal_functional")  # fmt: skip
def no_gradient(call: Call) -> list[Pass]:
    """Noise has no gradient."""
    return []
