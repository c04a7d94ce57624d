"""Gradients of a row of logits along the logits themselves."""

from functools import lru_cache

import numpy as np

from fanin.propagation.logit_rows import GAUSSIAN, LogitKind, drawn_rows
from fanin.propagation.softmax_shares import Shares

_MOST_COUNTS = 12
"""Numbers of keys that rows are told apart by."""


def left_along_unit_queries(shares: Shares) -> float:
    """Power of the gradient of queries of unit length, over what keys in all directions send.

    A query receives Σ a (g − ḡ) k. The keys that it picks all lie along it, and as Σ a (g − ḡ) = 0
    what they have in common there sends nothing: of a key's power that cosine² is gone, but for how
    the cosines differ.
    """
    directions = shares.kind.directions
    if directions < 2:
        return 1.0
    row, column, strangers, _ = along_rows(shares)
    return 1 - (column - row) / (strangers * directions) if strangers > 0 else 1.0


def along_rows(shares: Shares) -> tuple[float, float, float, float]:
    """``along_logits`` over rows that see different numbers of keys."""
    counts = np.array([shares.keys]) if shares.counts is None else shares.counts
    keys, times = np.unique(np.maximum(np.round(counts), 1).astype(int), return_counts=True)
    picked = np.unique(np.linspace(0, len(keys) - 1, _MOST_COUNTS).round().astype(int))
    weights = times[picked] * keys[picked]
    found = np.array(
        [along_logits(int(k), round(shares.std, 3), shares.kind) for k in keys[picked]]
    )
    row, column, strangers, together, squares = weights @ found
    return row, column, strangers, float(together / squares) if squares > 0 else 0.0


@lru_cache(maxsize=512)
def along_logits(
    keys: int, std: float, kind: LogitKind = GAUSSIAN
) -> tuple[float, float, float, float, float]:
    """Along a row of ``keys`` logits of that std, for independent unit gradients of the shares.

    Of logits that hold biases s is what the products make of them.

    Returns:
        E[(Σ g s)²] of a row over its keys; E[(g s)²] of one logit; the same of independent g and
        s; E[a² (1 − a) s] and E[a²].
    """
    if keys <= 1 or std == 0.0:
        square = 1.0 / keys**2
        return 0.0, 0.0, 0.0, 0.0, square
    z, shares = drawn_rows(keys, std, kind)
    own_std = std * kind.part**0.5
    z = own_std * z
    centred = z - (shares * z).sum(axis=1, keepdims=True)
    own = shares**2 * (1 - 2 * shares + (shares**2).sum(axis=1, keepdims=True))
    return (
        float((shares**2 * centred**2).mean()),
        float((own * z**2).mean()),
        float(own.mean()) * own_std**2,
        float((shares**2 * (1 - shares) * z).mean()),
        float((shares**2).mean()),
    )
