"""What queries and keys receive along themselves: shares of a softmax grow with its logits."""

from collections.abc import Collection

from fanin.propagation.attention_parts import keys_behind, softmax_behind, softmax_of_logits
from fanin.propagation.call import Call
from fanin.propagation.families.attention import FUSED
from fanin.propagation.logit_gradients import along_rows
from fanin.propagation.softmax_shares import Shares


def beside_attention(call: Call, tensor: int, stretched: Collection[int] = ()) -> float:
    """What queries and keys receive along themselves, over what strangers would.

    A query's sum is Σ a (g − ḡ) s over its logits s, and shares a grow with s.

    Args:
        call: the attention, the product of its queries and keys, or its softmax.
        tensor: which of the arguments receives it.
        stretched: tensors behind the one that is stretched.
    """
    if call.name in FUSED:
        kept = call.parts.kept(call.operation, "attention")
        if kept is None or tensor not in (call.tensor(0), call.tensor(1)):
            return 1.0
        shares: Shares = kept[4]
        by_query = tensor == call.tensor(0)
    elif "softmax" in call.name:
        # The logits alone were stretched, through queries or keys that were normed before.
        found = call.parts.kept(call.operation, "shares")
        key = keys_behind(call.graph, call.operation)
        if found is None or key is None or tensor != call.tensor(0):
            return 1.0
        shares, by_query = found, key not in stretched
    elif call.name in ("bmm", "baddbmm"):
        softmax = softmax_of_logits(call)
        if softmax is None:
            return 1.0
        shares = call.parts.kept(softmax, "shares")
        first = 0 if call.name == "bmm" else 1
        if tensor not in (call.tensor(first), call.tensor(first + 1)):
            return _part_of_logits(call, shares)
        by_query = tensor == call.tensor(first)
    else:
        return 1.0
    row, column, strangers, _ = along_rows(shares)
    return (row if by_query else column) / strangers if strangers > 0 else 1.0


def _part_of_logits(call: Call, shares: Shares) -> float:
    """A position bias b that is added to the logits s: b = f s + a stranger, f = E[b²]/E[s²]."""
    row, _, strangers, _ = along_rows(shares)
    whole, part = call.made().variance, call.state(0).variance
    if strangers <= 0 or whole <= 0:
        return 1.0
    # Products are a part of the logits too, and receive that much less than all of them would.
    return 1 + min(part / whole, 1.0) * (row / strangers - 1) / shares.kind.part


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
    together = along_rows(shares)[3]
    return key, value, together
