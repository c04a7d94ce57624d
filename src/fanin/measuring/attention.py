"""How spread the weights of an attention are, from its softmax or from a fused kernel's inputs."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fanin.graph.graph import Operation
from fanin.measuring.statistics import widened
from fanin.signals import AttentionSignal

FEWEST_KEYS = 8  # entropy of a handful of keys says nothing: early causal rows, narrow windows
# Where the fused kernels take them; keywords elsewhere.
_MASK_POSITION = {
    "_scaled_dot_product_efficient_attention": 3,
    "_scaled_dot_product_cudnn_attention": 3,
}
_CAUSAL_POSITION = {
    "_scaled_dot_product_flash_attention_for_cpu": 4,
    "_scaled_dot_product_flash_attention": 4,
    "_scaled_dot_product_efficient_attention": 6,
    "_scaled_dot_product_cudnn_attention": 6,
}
_LARGEST = 1 << 26  # elements of a score matrix that is worth building only to look at it


def read(
    operation: Operation,
    tensors: tuple[torch.Tensor, ...],
    value_of: Callable[[Any], torch.Tensor | None],
) -> AttentionSignal | None:
    """The signal of an operation that is an attention's softmax or a fused attention; else None.

    Args:
        operation: what ran.
        tensors: what it returned.
        value_of: gives the tensor behind an argument, None when it is gone.
    """
    if operation.name in ("_softmax", "_safe_softmax", "softmax") and tensors[0].dim() >= 3:
        weights = widened(tensors[0])
        # Queries × keys behind a batch or head axis; softmax over anything but the keys is none.
        axis = operation.args[1] if len(operation.args) > 1 else -1
        if axis not in (-1, weights.dim() - 1) or operation.inputs == ():
            return None
        return _signal(operation, weights)
    if operation.name.startswith("_scaled_dot_product"):
        scores = _fused_scores(operation, value_of)
        return None if scores is None else _signal(operation, torch.softmax(scores, dim=-1))
    return None


def _fused_scores(
    operation: Operation, value_of: Callable[[Any], torch.Tensor | None]
) -> torch.Tensor | None:
    query, key = (value_of(arg) for arg in operation.args[:2])
    if query is None or key is None or query.dim() != 4:
        return None
    if query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] > _LARGEST:
        return None
    query, key = widened(query), widened(key)
    if key.shape[1] != query.shape[1]:  # grouped queries share keys
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scale = operation.kwargs.get("scale") or 1 / math.sqrt(query.shape[-1])
    scores = query @ key.transpose(-2, -1) * scale
    mask = _argument(operation, "attn_mask", _MASK_POSITION)
    if mask is not None:
        values = value_of(mask)
        if values is None:
            return None
        scores = (
            scores.masked_fill(~values, -math.inf)
            if values.dtype == torch.bool
            else scores + widened(values)
        )
    if _argument(operation, "is_causal", _CAUSAL_POSITION):
        length, keys = scores.shape[-2:]
        hidden = torch.ones(length, keys, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores


def _argument(operation: Operation, name: str, positions: Mapping[str, int]) -> Any:
    if name in operation.kwargs:
        return operation.kwargs[name]
    position = positions.get(operation.name)
    if position is None or position >= len(operation.args):
        return None
    return operation.args[position]


def _signal(operation: Operation, weights: torch.Tensor) -> AttentionSignal | None:
    valid = (weights > 0).sum(dim=-1)
    entropy = -torch.special.xlogy(weights, weights).sum(dim=-1)
    counted = (valid >= FEWEST_KEYS) & torch.isfinite(entropy)
    if not bool(counted.any()):
        return None
    share = entropy[counted] / valid[counted].float().log()
    return AttentionSignal(
        operation.outputs[0], operation.module, float(share.mean()), int(valid.max())
    )
