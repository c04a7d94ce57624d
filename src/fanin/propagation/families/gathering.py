"""Embeddings, index_select, gather and indexing: rows of a table."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fanin.graph.graph import Ref
from fanin.propagation.call import Call
from fanin.propagation.chance import by_chance
from fanin.propagation.edge_sums import at_nodes, line_of, tensor_of
from fanin.propagation.edges import scattered_by
from fanin.propagation.families.slices import sliced
from fanin.propagation.layout import fit
from fanin.propagation.picked import Picks
from fanin.propagation.profile import Profile
from fanin.propagation.quadrature import Array
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.rows_read import gathered, ungathered
from fanin.propagation.state import State, gaussian
from fanin.propagation.taken_along import TakenAlong

MOST_INDICES = 4
"""Indices whose agreement is counted one by one: 2ⁿ ways to agree."""
MOST_INDEXED = 1 << 20
"""Indices of more entries are not counted."""


def _index_shape(call: Call, position: int) -> tuple[int, ...]:
    tensor = call.tensor(position)
    return call.graph.tensors[tensor].shape if tensor is not None else ()


@forward("embedding", "embedding_renorm")
def embedding(call: Call) -> State:
    """Rows of the table."""
    return gathered(call.state(0), 0, call.optional(1), _index_shape(call, 1))


@backward("embedding")
def embedding_backward(call: Call) -> list[Pass]:
    """Into the rows that were read."""
    tensor, made = call.tensor(0), call.made()
    if tensor is None:
        return []
    table, index, shape = call.state(0), call.optional(1), _index_shape(call, 1)
    return [Pass(tensor, lambda p: ungathered(p, made.axes, table, 0, index, shape))]


@forward("index_select")
def index_select(call: Call) -> State:
    """Entries of one axis."""
    state = call.state(0)
    dim = int(call.raw(1, "dim")) % max(len(state.axes), 1)
    return gathered(state, dim, call.optional(2, "index"), _index_shape(call, 2) or (1,))


@backward("index_select")
def index_select_backward(call: Call) -> list[Pass]:
    """Into the entries that were read."""
    tensor = call.tensor(0)
    if tensor is None:
        return []
    dim = int(call.raw(1, "dim")) % max(len(call.state(0).axes), 1)
    index, shape = call.optional(2, "index"), _index_shape(call, 2) or (1,)
    return [_into_table(call, tensor, dim, index, shape)]


def _into_table(
    call: Call, tensor: int, dim: int, index: State | None, shape: Sequence[int]
) -> Pass:
    made, table = call.made(), call.states[tensor]
    way = Pass(tensor, lambda p: ungathered(p, made.axes, table, dim, index, shape))
    known = None if index is None else index.known
    if known is None or known.dim() != 1 or call.graph.tensors[tensor].of_parameters:
        return way
    length = table.shape[dim]
    rows = known.long().numpy() % length
    ends = None
    if dim == 0:
        # Where messages along the edges of a graph go that were read here.
        ends = scattered_by(call.graph, call.states, call.operation.outputs[0], len(rows))

    def move(pairs: Array, profile: Profile) -> tuple[Array, Profile]:
        edges = line_of(pairs, made.axes, dim, profile)
        nodes = at_nodes(edges, rows, length, None if ends is None else ends.numpy())
        axes, found, powers = tensor_of(nodes, made.axes, dim, length, profile)
        return fit(found, axes, table.axes), powers

    return replace(way, move_placed=move)


def _single_index(call: Call) -> tuple[int, State, tuple[int, ...]] | None:
    """The one axis that plain advanced indexing runs along; None for several or boolean ones."""
    given = [(d, ref) for d, ref in enumerate(call.raw(1)) if isinstance(ref, Ref)]
    if len(given) != 1 or call.kind(given[0][1].tensor) in ("bool", "uint8"):
        return None
    dim, ref = given[0]
    return dim, call.states[ref.tensor], call.graph.tensors[ref.tensor].shape


@forward("index", "_unsafe_index")
def index(call: Call) -> State | None:
    """``x[i]``: one integer index along one axis; a part that a mask picks; else sampled."""
    single = _single_index(call)
    state = call.state(0)
    if single is not None:
        dim, places, shape = single
        return gathered(state, dim, places, shape)
    refs = _leading_indices(call)
    if refs is None or not call.shape():
        return None
    picks = _picks(call, refs)
    return picks.read(state) if picks is not None else _several(call, state, refs)


def _leading_indices(call: Call) -> list[Ref] | None:
    """``x[i, j]``: integer indices along the leading axes, and nothing else."""
    refs = [ref for ref in call.raw(1) if isinstance(ref, Ref)]
    plain = all(call.kind(r.tensor) not in ("bool", "uint8") for r in refs)
    return refs if refs and plain and len(refs) == len(call.raw(1)) else None


def _picks(call: Call, refs: Sequence[Ref]) -> Picks | None:
    """The places that they pick, where all of them are known."""
    known = [value for r in refs if (value := call.states[r.tensor].known) is not None]
    small = len(refs) <= MOST_INDICES and len(known) == len(refs)
    return Picks(known, call.state(0).shape[: len(refs)]) if small else None


def _several(call: Call, state: State, refs: Sequence[Ref]) -> State:
    """Places of the joined leading axes that no one knows."""
    from fanin.propagation.families.views import reshaped

    count = len(refs)
    shapes = [call.graph.tensors[r.tensor].shape for r in refs]
    total = int(np.prod(state.shape[:count]))
    joined = reshaped(state, (total, *state.shape[count:]))
    return gathered(joined, 0, None, tuple(np.broadcast_shapes(*shapes)))


@backward("index", "_unsafe_index")
def index_backward(call: Call) -> list[Pass]:
    """Into the entries that were read."""
    from fanin.propagation.families.views import reshaped
    from fanin.propagation.layout import fit_flat

    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    single = _single_index(call)
    if tensor is None:
        return []
    if single is not None:
        dim, places, shape = single
        return [_into_table(call, tensor, dim, places, shape)]
    refs = _leading_indices(call)
    if refs is not None:
        picks = _picks(call, refs)
        if picks is not None:
            return [
                Pass(
                    tensor,
                    lambda p: picks.sent_back(p, made.axes, state),
                    carry=picks.carry(state, made),
                )
            ]
        count = len(refs)
        shape = tuple(np.broadcast_shapes(*(call.graph.tensors[r.tensor].shape for r in refs)))
        joined = reshaped(state, (int(np.prod(state.shape[:count])), *state.shape[count:]))
        if len(made.axes) == len(shape) + len(joined.axes) - 1:
            return [
                Pass(
                    tensor,
                    lambda p: fit_flat(
                        ungathered(p, made.axes, joined, 0, None, shape), joined.axes, state.axes
                    ),
                )
            ]
    share = float(np.prod(made.shape)) / max(float(np.prod(state.shape)), 1.0)

    def spread(pairs: Array) -> Array:
        found = np.zeros_like(state.pairs)
        found.flat[0] = pairs.flat[0] * share
        return found

    return [Pass(tensor, spread)]


def _along(call: Call, state: State) -> TakenAlong | None:
    """The places that a known index reads; None where weights or data choose them."""
    dim, tensor = int(call.raw(1, "dim")), call.tensor(2, "index")
    index = call.optional(2, "index")
    if tensor is None or index is None or index.known is None or not state.axes:
        return None
    chosen = index.sampled and not by_chance(call.graph, tensor)
    same_rank = index.known.dim() == len(state.axes)
    if chosen or not same_rank or index.known.numel() > MOST_INDEXED:
        return None
    dim %= len(state.axes)
    return TakenAlong(index.known, dim, state.shape[dim])


def _cut(call: Call) -> State:
    """The source as far as an index reads it: other axes may be shorter."""
    part, index = call.state(0), _index_shape(call, 2)
    dim = int(call.raw(1, "dim")) % max(len(part.axes), 1)
    for d, n in enumerate(index):
        if d != dim and part.shape[d] != n:
            part = sliced(part, d, n, ("gather", call.operation.index, d))
    return part


@forward("gather", "take_along_dim")
def gather(call: Call) -> State:
    """Entries along an axis, chosen place by place."""
    part = _cut(call)
    along = _along(call, part)
    if along is not None:
        return along.read(part)
    for d, n in enumerate(call.shape()):
        if part.shape[d] != n:
            part = sliced(part, d, n, ("gather", call.operation.index, d))
    return gaussian(part.axes, part.mean, part.pairs).with_flags(part)


@backward("gather", "take_along_dim")
def gather_backward(call: Call) -> list[Pass]:
    """Into the places that were read; where they are not known, the share of them."""
    tensor, made, state = call.tensor(0), call.made(), call.state(0)
    if tensor is None:
        return []
    part = _cut(call)
    along = _along(call, part) if part.shape == state.shape else None
    if along is not None:
        found = along
        return [Pass(tensor, lambda p: found.sent_back(p, made.axes, part), carry=found.carry())]
    share = float(np.prod(made.shape)) / max(float(np.prod(state.shape)), 1.0)

    def spread(pairs: Array) -> Array:
        found = np.zeros_like(state.pairs)
        found.flat[0] = pairs.flat[0] * share
        return found

    return [Pass(tensor, spread)]
