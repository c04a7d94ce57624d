"""Softmax and its logarithm as ATen runs them."""

import numpy as np

from fanin.propagation.algebra import shifted
from fanin.propagation.attention_parts import keys_behind
from fanin.propagation.call import Call
from fanin.propagation.carrying import weighted
from fanin.propagation.layout import fit
from fanin.propagation.logit_rows import kind_of_logits
from fanin.propagation.logit_sources import of_normed_tokens
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.softmax_shares import Shares, softmax_gradient, softmax_shares
from fanin.propagation.state import State, gaussian


@forward("_softmax", "_safe_softmax", "softmax", leaves=True)
def softmax(call: Call) -> State:
    """Shares that sum to 1 along an axis."""
    logits = call.state(0)
    dim = int(call.raw(1, "dim")) % max(len(logits.axes), 1)
    kind = kind_of_logits(call, dim)
    keys = keys_behind(call.graph, call.operation)
    kind = of_normed_tokens(call.graph, call.states, call.parts, kind, keys)
    shares = softmax_shares(logits, dim, logits.blocked, kind)
    call.parts.keep(call.operation, "shares", shares)
    return shares.state


@backward("_softmax", "_safe_softmax", "softmax")
def softmax_backward(call: Call) -> list[Pass]:
    """See ``softmax_gradient``."""
    tensor, made = call.tensor(0), call.made()
    shares: Shares = call.parts.kept(call.operation, "shares")
    if tensor is None:
        return []
    target = call.states[tensor].axes
    move = lambda p: fit(softmax_gradient(p, shares), made.axes, target)  # noqa: E731
    return [Pass(tensor, move, carry=weighted(shares.received, made.shape, made.shape))]


@forward("_log_softmax", "log_softmax")
def log_softmax(call: Call) -> State:
    """X − ln Σ eˣ: the within-row part of x, shifted by −(ln T + s²/2)."""
    from fanin.propagation.algebra import centred_pairs

    logits = call.state(0)
    dim = int(call.raw(1, "dim")) % len(logits.axes)
    within = centred_pairs(logits.pairs, logits.axes, [dim])
    shift = -float(np.log(logits.shape[dim]) + within.flat[0] / 2)
    return shifted(gaussian(logits.axes, 0.0, within), shift).with_flags(logits)


@backward("_log_softmax", "log_softmax")
def log_softmax_backward(call: Call) -> list[Pass]:
    """G − a Σ g, with shares near 1/T: the within-row part of g."""
    from fanin.propagation.algebra import centred_pairs

    tensor, made = call.tensor(0), call.made()
    if tensor is None:
        return []
    target = call.states[tensor].axes
    dim = int(call.raw(1, "dim")) % len(made.axes)
    return [Pass(tensor, lambda p: fit(centred_pairs(p, made.axes, [dim]), made.axes, target))]
