"""Pairs of tokens of which some are one vector: what a norm makes of them.

Pair moments are averages over all pairs of tokens, each pair with its power. Where tokens that are
alike are weak, their pairs hardly count; a norm brings all tokens to one power, and 64 of 80 tokens
that are alike make two of them agree in 64 · 63 of 80 · 79 cases.
"""

import numpy as np

from fanin.propagation.call import Call, Rows
from fanin.propagation.layout import atom_range
from fanin.propagation.profile import even
from fanin.propagation.state import State, gaussian
from fanin.propagation.twins import alike


def with_rows_alike(call: Call, made: State) -> State:
    """What a norm of each row made, with its alike rows counted as that.

    Args:
        call: the norm.
        made: what it made, places of their own powers.
    """
    source, rank = call.tensor(0), len(made.axes)
    if source is None or rank < 2 or len(made.axes[-2]) != 1 or made.second_moment <= 0:
        return made
    rows = alike(call, source)
    if rows is None:
        return made
    lines = np.broadcast_to(rows, (*rows.shape[:-1], made.shape[-2])).reshape(-1, made.shape[-2])
    here = lines[0]
    if here.sum() < 2 or (lines != here).any():
        return made
    at = atom_range(made.axes, rank - 2).start
    before = call.states[source]
    share, others = _of_alike(made, here)
    share_before, others_before = _of_alike(before, here)
    same, apart = np.take(before.pairs, 0, at), np.take(before.pairs, 1, at)
    # What two tokens that are not alike have in common, each of unit power.
    rest = np.zeros_like(same)
    if others_before > 0:
        np.divide(apart - share_before * same, others_before * same, out=rest, where=same != 0)
        rest = np.clip(rest, 0.0, 1.0)
    same_now = np.take(made.pairs, 0, at)
    pairs = np.stack([same_now, same_now * (share + others * rest)], axis=at)
    again = gaussian(made.axes, made.mean, pairs, profile=made.profile)
    return again.with_flags(made)


def _of_alike(state: State, here: Rows) -> tuple[float, float]:
    """Σ √(p p′) over pairs of alike rows and over all others, over the number of all pairs."""
    rank, n = len(state.axes), len(here)
    powers = even(state.profile, rank)
    powers = np.broadcast_to(powers.mean(axis=tuple(d for d in range(rank) if d != rank - 2)), (n,))
    roots = np.sqrt(powers)
    count = n * (n - 1)
    whole = float(roots.sum() ** 2 - powers.sum()) / count
    own = float(roots[here].sum() ** 2 - powers[here].sum()) / count
    return own, max(whole - own, 0.0)
