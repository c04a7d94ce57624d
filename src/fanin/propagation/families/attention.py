"""Attention as one operation: logits from q·kᵀ, shares from softmax, averages of v."""

from dataclasses import replace

import numpy as np
import torch

from fanin.propagation.algebra import added, scaled
from fanin.propagation.alignment import (
    asking,
    leaning,
    leaning_power,
    leaning_together,
    query_alignment,
    raised,
)
from fanin.propagation.call import Call
from fanin.propagation.carrying import Carried, Carry, contracted, weighted
from fanin.propagation.contraction import contract, contracted_pairs
from fanin.propagation.layout import Axes, atom_range, fit, shape_of
from fanin.propagation.logit_rows import GAUSSIAN, LogitKind, within
from fanin.propagation.logit_sources import of_normed_tokens
from fanin.propagation.profile import Profile, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.softmax_shares import Shares, softmax_gradient, softmax_shares
from fanin.propagation.state import State, gaussian, independent

FUSED = {
    "_scaled_dot_product_flash_attention_for_cpu": (None, 3, 4),
    "_scaled_dot_product_flash_attention": (None, 3, 4),
    "_scaled_dot_product_efficient_attention": (3, 5, 6),
    "_scaled_dot_product_fused_attention_overrideable": (3, 4, 5),
    "_scaled_dot_product_cudnn_attention": (3, 5, 6),
    "_scaled_dot_product_attention_math": (3, 4, 5),
    "_scaled_dot_product_attention_math_for_mps": (3, 4, 5),
}
"""Positions of the mask, the dropout and the causal flag."""


def _letters(call: Call) -> tuple[str, str, str, str]:
    lead = "abcefgh"[: len(call.state(0).axes) - 2]
    return lead + "id", lead + "jd", lead + "ij", lead


@forward(*FUSED, leaves=True)
def fused_attention(call: Call) -> list[State | None]:
    """softmax(q kᵀ · scale + mask) v."""
    query, key, value = (call.state(k) for k in range(3))
    mask_at, dropout_at, causal_at = FUSED[call.name]
    scale = call.operation.kwargs.get("scale")
    factor = float(scale) if scale is not None else query.shape[-1] ** -0.5
    of_q, of_k, of_logits, lead = _letters(call)
    if key.shape[:-2] != query.shape[:-2]:
        key, value = _repeated(key, query), _repeated(value, query)
    logits = scaled(contract(query, key, of_q, of_k, of_logits), factor)
    blocked: torch.Tensor | None = None
    kind = GAUSSIAN
    mask = call.optional(mask_at if mask_at is not None else 99, "attn_mask")
    if mask is None and mask_at is not None:
        mask = call.optional(mask_at, "attn_bias")
    if mask is not None and call.kind(call.tensor(mask_at or 99, "attn_mask") or 0) == "bool":
        blocked = ~mask.known.bool() if mask.known is not None else None
    elif mask is not None:
        blocked = mask.blocked
        products = within(logits, len(logits.axes) - 1)
        logits = added(logits, replace(mask, blocked=None))
        whole = within(logits, len(logits.axes) - 1)
        kind = LogitKind(0, round(min(products / whole, 1.0), 2) or 0.01) if whole > 0 else GAUSSIAN
    if call.raw(causal_at, "is_causal", False):
        rows, columns = logits.shape[-2:]
        blocked = torch.ones(rows, columns).tril().logical_not()
    kind = of_normed_tokens(call.graph, call.states, call.parts, kind, call.tensor(1))
    shares = softmax_shares(logits, -1, blocked, kind)
    used = shares.state
    p = float(call.raw(dropout_at, "dropout_p", 0.0) or 0.0)
    if p > 0:
        pairs = used.pairs.copy()
        pairs.flat[0] /= 1 - p
        used = gaussian(used.axes, used.mean, pairs, profile=used.profile)
    parts = (query, key, value, factor, shares, used)
    call.parts.keep(call.operation, "attention", parts)
    out = contract(used, value, of_logits, lead + "jd", lead + "id")
    # The output averages v: its mean is that of v, whatever the shares.
    out = gaussian(out.axes, value.mean, out.pairs, profile=out.profile)
    keys, values = call.tensor(1), call.tensor(2)
    if keys is not None and values is not None:
        share = leaning(call.graph, call.states, keys, values)
        call.parts.keep(call.operation, "leaning", share)
        last = len(logits.axes) - 1
        power = leaning_power(call, values, shares, share)
        queries, together = call.tensor(0), None
        if share and queries is not None:
            together = leaning_together(call.graph, call.states, queries, values, out)
        out = raised(out, power, asking(logits, last, out), together)
    out = out.with_flags(query, key, value)
    rest: list[State | None] = [None] * (len(call.operation.outputs) - 1)
    if rest:
        rest[0] = _log_sum(call, logits, shares)
    return [out, *rest]


def _log_sum(call: Call, logits: State, shares: Shares) -> State | None:
    """Ln Σ eˡ over the keys, as the fused kernels return it."""
    shape = call.shape(1)
    if call.kind(call.operation.outputs[1]) not in ("float32", "float64"):
        return None
    spread = float(logits.second_moment - logits.mean**2) / 2
    level = float(np.log(max(shares.keys, 1.0))) + min(spread, 8.0)
    return independent(shape, level, 0.0)


def _repeated(state: State, like: State) -> State:
    """Keys or values of fewer heads, each read by several queries' heads."""
    from fanin.propagation.families.views import moved_state, reshaped

    times = like.shape[-3] // state.shape[-3]
    pairs, base = state.pairs, state.base.pairs
    at = atom_range(state.axes, len(state.axes) - 3).stop
    pairs, base = (np.stack([a, a], axis=at) for a in (pairs, base))
    axes = (*state.axes[:-3], (*state.axes[-3], times), *state.axes[-2:])
    heads = len(axes) - 3

    def again(profile: Profile) -> Profile:
        if profile is None or profile.shape[heads] == 1:
            return profile
        return np.repeat(profile, times, axis=heads)

    moved = moved_state(state, axes, pairs, base, "repeat", None, again)
    return reshaped(moved, shape_of(axes))


@backward(*FUSED)
def fused_attention_backward(call: Call) -> list[Pass]:
    """Through v, and through the shares to q and k."""
    query, key, value, factor, shares, used = call.parts.kept(call.operation, "attention")
    of_q, of_k, of_logits, lead = _letters(call)
    of_v = lead + "jd"
    of_out = lead + "id"
    made = call.made()

    shares_: Shares = shares
    squares = shares.state.second_moment * shares.state.shape[-1]
    share = call.parts.kept(call.operation, "leaning") or 0.0
    along = query_alignment(share, squares, key.profile)

    def to_value(pairs: Array) -> Array:
        axes, found, _ = contracted_pairs(
            (used.axes, used.pairs), (made.axes, pairs), of_logits, of_out, of_v
        )
        return _back(call, 2, axes, found)

    def to_logits(pairs: Array) -> Array:
        axes, found, _ = contracted_pairs(
            (made.axes, pairs), (value.axes, value.pairs), of_out, of_v, of_logits
        )
        gradient = softmax_gradient(fit(found, axes, shares_.state.axes), shares_)
        return np.asarray(gradient * factor**2)

    def to_query(pairs: Array) -> Array:
        axes, found, _ = contracted_pairs(
            (shares.state.axes, to_logits(pairs)), (key.axes, key.pairs), of_logits, of_k, of_q
        )
        return _back(call, 0, axes, found * along)

    def to_key(pairs: Array) -> Array:
        axes, found, _ = contracted_pairs(
            (shares.state.axes, to_logits(pairs)), (query.axes, query.pairs), of_logits, of_q, of_k
        )
        return _back(call, 1, axes, found)

    rows = shares_.state.shape
    to_shares = contracted(value.profile, of_out, of_v, of_logits)

    def through_logits(other: State, others: str, target: str) -> Carry:
        """Rows keep the power of their query's gradient; those that see one key have none."""

        def carry(profile: Profile) -> Carried:
            found, factor = to_shares(profile)
            found, again = weighted(shares_.received, rows, rows)(found)
            found, last = contracted(other.profile, of_logits, others, target)(found)
            return found, factor * again * last

        return carry

    moves = (to_query, to_key, to_value)
    carries = (
        through_logits(key, of_k, of_q),
        through_logits(query, of_q, of_k),
        contracted(used.profile, of_out, of_logits, of_v),
    )
    return [
        Pass(tensor, move, carry=_fewer(carry, call.state(k).shape))
        for k, (move, carry) in enumerate(zip(moves, carries, strict=True))
        if (tensor := call.tensor(k)) is not None
    ]


def _fewer(carry: Carry, target: tuple[int, ...]) -> Carry:
    """Heads that several queries' heads read are one again."""

    def carried(profile: Profile) -> Carried:
        found, factor = carry(profile)
        if found is not None:
            uneven = tuple(d for d, n in enumerate(found.shape) if n not in (1, target[d]))
            found = settled(found.mean(axis=uneven, keepdims=True))[0] if uneven else found
        return found, factor

    return carried


def _back(call: Call, position: int, axes: Axes, pairs: Array) -> Array:
    """Under the argument's own axes; repeated heads add up."""
    target = call.state(position)
    if shape_of(axes) == target.shape:
        return fit(pairs, axes, target.axes)
    dim = len(axes) - 3
    times = shape_of(axes)[dim] // target.shape[dim]
    heads = target.shape[dim]
    wanted = (*axes[:dim], (*((heads,) if heads > 1 else ()), times), *axes[dim + 1 :])
    split = fit(pairs, axes, wanted)
    at = atom_range(wanted, dim).stop - 1
    summed = np.tensordot(split, np.array([times, times * (times - 1)], float), axes=(at, 0))
    rest = (*axes[:dim], (heads,) if heads > 1 else (), *axes[dim + 1 :])
    return fit(np.asarray(summed), rest, target.axes)
