"""What queries and keys receive along themselves: shares of a softmax grow with its logits."""

from functools import lru_cache

import numpy as np

from fanin.propagation.attention_parts import keys_behind, softmax_behind, softmax_of_logits
from fanin.propagation.call import Call
from fanin.propagation.families.attention import FUSED
from fanin.propagation.softmax_shares import Shares

_MOST_COUNTS = 12
"""Numbers of keys that rows are told apart by."""


def beside_attention(call: Call, tensor: int) -> float:
    """What queries and keys receive along themselves, over what strangers would.

    A query's sum is Σ a (g − ḡ) s over its logits s, and shares a grow with s.
    """
    if call.name in FUSED:
        kept = call.parts.kept(call.operation, "attention")
        if kept is None or tensor not in (call.tensor(0), call.tensor(1)):
            return 1.0
        shares: Shares = kept[4]
        by_query = tensor == call.tensor(0)
    elif call.name in ("bmm", "baddbmm"):
        softmax = softmax_of_logits(call)
        if softmax is None:
            return 1.0
        shares = call.parts.kept(softmax, "shares")
        first = call.tensor(0 if call.name == "bmm" else 1)
        by_query = tensor == first
    else:
        return 1.0
    row, column, strangers, _ = _of_rows(shares)
    return (row if by_query else column) / strangers if strangers > 0 else 1.0


def keys_of_values(call: Call) -> tuple[int, int, float] | None:
    """Keys and values of an attention, where ``call`` averages the values.

    Returns:
        Ids of both, and E[Σ g·k · Σ g·v] / E[(Σ g·v)²] over the tokens' keys and values: a value
        receives a·g, its key a (g·v − g·y) of the same g, weighed with a logit that goes with a.
    """
    if call.name in FUSED:
        kept = call.parts.kept(call.operation, "attention")
        key, value = call.tensor(1), call.tensor(2)
        shares: Shares | None = None if kept is None else kept[4]
    elif call.name == "bmm":
        source, value = call.tensor(0), call.tensor(1)
        softmax = None if source is None else softmax_behind(call.graph, source)
        key = None if softmax is None else keys_behind(call.graph, softmax)
        shares = None if softmax is None else call.parts.kept(softmax, "shares")
    else:
        return None
    if shares is None or key is None or value is None:
        return None
    together = _of_rows(shares)[3]
    return key, value, together


def _of_rows(shares: Shares) -> tuple[float, float, float, float]:
    """``along_logits`` over rows that see different numbers of keys."""
    counts = np.array([shares.keys]) if shares.counts is None else shares.counts
    keys, times = np.unique(np.maximum(np.round(counts), 1).astype(int), return_counts=True)
    picked = np.unique(np.linspace(0, len(keys) - 1, _MOST_COUNTS).round().astype(int))
    weights = times[picked] * keys[picked]
    found = np.array([along_logits(int(k), round(shares.std, 3)) for k in keys[picked]])
    row, column, strangers, together, squares = weights @ found
    return row, column, strangers, float(together / squares) if squares > 0 else 0.0


@lru_cache(maxsize=512)
def along_logits(keys: int, std: float) -> tuple[float, float, float, float, float]:
    """Along a row of ``keys`` logits s ~ N(0, std²), for independent unit gradients of the shares.

    Returns:
        E[(Σ g s)²] of a row over its keys; E[(g s)²] of one logit; the same of independent g and
        s; E[a² (1 − a) s] and E[a²].
    """
    if keys <= 1 or std == 0.0:
        square = 1.0 / keys**2
        return 0.0, 0.0, 0.0, 0.0, square
    rows = max((1 << 16) // keys, 16)
    z = np.random.default_rng(keys).standard_normal((rows, keys)) * std
    shares = np.exp(z - z.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    centred = z - (shares * z).sum(axis=1, keepdims=True)
    own = shares**2 * (1 - 2 * shares + (shares**2).sum(axis=1, keepdims=True))
    return (
        float((shares**2 * centred**2).mean()),
        float((own * z**2).mean()),
        float(own.mean()) * std**2,
        float((shares**2 * (1 - shares) * z).mean()),
        float((shares**2).mean()),
    )
