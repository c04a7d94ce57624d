"""Tokens that start alike stay alike: a class token and a distillation token of zeros are one.

Norms, linear layers and activations treat every token in the same way, and two that ask the same
question receive the same average from attention. Tokens of zeros, which ask nothing, are therefore
one vector in each sample, however many layers later, until something tells them apart by place.
"""

from collections.abc import Sequence

import numpy as np

from fanin.graph.graph import Operation, Ref
from fanin.propagation.attention_parts import queries_behind, read_from, softmax_behind
from fanin.propagation.call import Call, Rows, functional_name
from fanin.propagation.places import place_of
from fanin.propagation.profile import even

_ROWS = {"native_layer_norm", "_fused_rms_norm", "mm", "addmm"}
_SAME = {"clone", "contiguous", "alias", "detach", "_to_copy", "native_dropout",
         "dropout_identity"}  # fmt: skip
_VIEWS = {"view", "_unsafe_view", "reshape"}
_ELEMENTWISE = {"add", "sub", "mul", "div"}
_HEADS = _VIEWS | _SAME | {"transpose", "permute"}
_FUSED = "_scaled_dot_product"
_FURTHEST = 400


def twins(call: Call, one: int, two: int) -> bool:
    """Whether two tensors show two tokens of one tensor that are alike in every sample."""
    a, b = place_of(call.graph, one), place_of(call.graph, two)
    shape = call.graph.tensors[a.root].shape
    if a.root != b.root or a.alive != b.alive or len(shape) < 2:
        return False
    apart = [d for d, (i, j) in enumerate(zip(a.offsets, b.offsets, strict=True)) if i != j]
    if apart != [len(shape) - 2] or call.graph.tensors[one].shape != call.graph.tensors[two].shape:
        return False
    if len(shape) - 2 in a.alive:
        return False
    found = alike(call, a.root)
    if found is None:
        return False
    rows = np.broadcast_to(found, shape[:-1])
    return bool(rows[..., a.offsets[-2]].all() and rows[..., b.offsets[-2]].all())


def alike(call: Call, tensor: int, left: int = _FURTHEST) -> Rows | None:
    """Which rows of a tensor are one vector in each sample, true or false for each of them.

    Rows lie along the last axis; the array broadcasts to the shape without it. None for none.
    """
    known = call.parts.alike
    if tensor not in known:
        if left == 0:
            return None
        known[tensor] = None
        known[tensor] = _alike(call, tensor, left)
    return known[tensor]


def _alike(call: Call, tensor: int, left: int) -> Rows | None:
    state, shape = call.states.get(tensor), call.graph.tensors[tensor].shape
    if state is None or len(shape) < 2:
        return None
    if state.second_moment == 0.0:
        return np.ones((1,) * (len(shape) - 1), dtype=bool)
    if state.profile is not None:
        zero: Rows = (even(state.profile, len(shape)) == 0.0).all(axis=-1)
        if zero.any():
            return zero
    maker = call.graph.producer.get(tensor)
    if maker is None:
        return None
    name = functional_name(maker.name)
    refs = [a.tensor for a in maker.args if isinstance(a, Ref)]
    if name in _ELEMENTWISE:
        return _together(call, maker, shape, left)
    if name in ("mm", "addmm"):
        refs = refs[1:] if name == "addmm" else refs
        return alike(call, refs[0], left - 1) if _is_weight(call, refs[1]) else None
    if not refs:
        return None
    given = call.graph.tensors[refs[0]].shape
    if name == "slice":
        return _sliced(alike(call, refs[0], left - 1), maker, given)
    if name in _ROWS | _SAME or (given == shape and len(refs) == 1 and _same_base(call, maker)):
        return alike(call, refs[0], left - 1)
    if name in _HEADS or name.startswith(_FUSED):
        found = None
        if name in _VIEWS and given[-1:] == shape[-1:]:
            found = _viewed(alike(call, refs[0], left - 1), given[:-1], shape[:-1])
        return found if found is not None else _averaged(call, tensor, left)
    return None


def _together(call: Call, maker: Operation, shape: Sequence[int], left: int) -> Rows | None:
    """Rows that are alike in both operands; one that has no rows of its own is so in all."""
    found: Rows = np.ones((1,) * (len(shape) - 1), dtype=bool)
    for ref in maker.args[:2]:
        if not isinstance(ref, Ref):
            continue
        own = call.graph.tensors[ref.tensor].shape
        if len(own) < 2 or own[-2] == 1:
            if len(own) > len(shape):
                return None
            continue
        rows = alike(call, ref.tensor, left - 1)
        if rows is None:
            return None
        found = found & rows
    return found if found.any() and found.shape[-1] != 1 else None


def _averaged(call: Call, tensor: int, left: int) -> Rows | None:
    """Attention's output with its heads side by side: rows of queries that are alike."""
    graph, shape, current = call.graph, call.graph.tensors[tensor].shape, tensor
    for _ in range(8):
        maker = graph.producer.get(current)
        if maker is None or not maker.args or not isinstance(maker.args[0], Ref):
            return None
        name = functional_name(maker.name)
        query: int | None = None
        if name.startswith(_FUSED):
            masked = any(isinstance(a, Ref) for a in maker.args[3:]) or True in maker.args[3:]
            if masked or maker.kwargs.get("attn_mask") is not None:
                return None
            query = maker.args[0].tensor
        elif name == "bmm":
            softmax = softmax_behind(graph, maker.args[0].tensor)
            if softmax is None or not _plain_logits(call, softmax):
                return None
            query = queries_behind(graph, softmax)
        if query is not None:
            source = read_from(graph, query)
            rows = None if source is None else alike(call, source, left - 1)
            if rows is None or source is None:
                return None
            return _viewed(rows, graph.tensors[source].shape[:-1], shape[:-1])
        if name not in _HEADS:
            return None
        current = maker.args[0].tensor
    return None


def _plain_logits(call: Call, softmax: Operation) -> bool:
    """Whether nothing that differs from row to row is added to the products."""
    source = softmax.args[0]
    for _ in range(8):
        maker = call.graph.producer.get(source.tensor) if isinstance(source, Ref) else None
        if maker is None:
            return False
        if maker.name in ("bmm", "baddbmm"):
            return maker.name == "bmm"
        if functional_name(maker.name) not in _HEADS | {"mul", "div"}:
            return False
        source = maker.args[0]
    return False


def _sliced(rows: Rows | None, maker: Operation, given: Sequence[int]) -> Rows | None:
    """The rows that a slice along the axis of the rows, or along another, leaves."""
    if rows is None:
        return None
    dim = int(maker.args[1]) % len(given) if len(maker.args) > 1 else 0
    if dim == len(given) - 1:
        return rows  # parts of one vector are one vector
    if rows.shape[dim] == 1:
        return rows
    left = rows[(slice(None),) * dim + (slice(*maker.args[2:]),)]
    return left if left.any() else None


def _viewed(rows: Rows | None, given: Sequence[int], made: Sequence[int]) -> Rows | None:
    if rows is None or np.prod(given) != np.prod(made):
        return None
    found: Rows = np.broadcast_to(rows, given).reshape(made)
    return found


def _is_weight(call: Call, tensor: int) -> bool:
    info = call.graph.tensors[tensor]
    return info.kind == "parameter" or bool(info.of_parameters)


def _same_base(call: Call, maker: Operation) -> bool:
    """Whether an operation takes each number by itself."""
    states = call.states
    out, source = states.get(maker.outputs[0]), states.get(maker.inputs[0])
    return out is not None and source is not None and out.base.key == source.base.key
