"""Rows of a residual stream that were weak at its start are weak before all of its norms.

Every norm of a stream divides the gradient of a row by that row's power, and what a branch sends
back has been divided before, by the norms above. Of rows whose power S at the start differs, the
weak ones receive the larger gradients time and again: E[1/S · (1 + c/S)] is more than
E[1/S] (1 + c E[1/S]). What is carried with a gradient is therefore its mean square given S; of
a stream of m features S differs by 2/m at least.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fanin.graph.graph import Graph, Operation, Ref
from fanin.graph.vocabulary import COPIES
from fanin.propagation.attention_parts import is_weight
from fanin.propagation.call import Call, functional_name
from fanin.propagation.families.attention import FUSED
from fanin.propagation.few import varies
from fanin.propagation.norm_power import NormPower, chi_square
from fanin.propagation.norm_settings import ROW_NORMS
from fanin.propagation.profile import Profile, even, settled
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State

_LEAST = 1e-3
"""Relative variance of S below which rows count as equally strong."""
_FURTHEST = 4000
_VIEWS = {"view", "_unsafe_view", "reshape"}
_PASSED = (
    COPIES | _VIEWS | {"native_dropout", "dropout", "slice", "expand", "split", "split_with_sizes"}
)
_PRODUCTS = {"mm": 0, "addmm": 1}
_BATCHED = {"bmm": 0, "baddbmm": 1}
_TOGETHER = {"add", "sub", "mul", "div", "where", "masked_fill", "cat", "_softmax",
             "_safe_softmax"}  # fmt: skip


@dataclass(frozen=True)
class Strength:
    """Mean square of a gradient given the power S of its row at the start of a stream.

    Args:
        stream: id of the tensor that the stream starts from.
        values: on the nodes of S, of mean 1.
    """

    stream: int
    values: Array


@dataclass(frozen=True)
class Stream:
    """What a norm reads of a residual stream.

    Args:
        start: id of the tensor that the stream starts from.
        share: of that tensor in the power of each row that is divided, 0 where rows of it hold
            nothing, or are of another kind; it broadcasts to the shape without the last axis.
        powers: S on its nodes.
        mass: of the nodes.
        kind: S is that of some of the rows, which differ more than the others.
    """

    start: int
    share: Array
    powers: Array
    mass: Array
    kind: bool


def mixed(parts: Iterable[tuple[float, Strength | None]]) -> Strength | None:
    """Of a sum of strangers with these powers; those of other streams count as even."""
    held = [(power, strength) for power, strength in parts if power > 0]
    known = [(power, s) for power, s in held if s is not None]
    if not known:
        return None
    stream = max(known, key=lambda part: part[0])[1].stream
    total = sum(power for power, _ in held)
    values = np.asarray(sum(
        power * (s.values if s is not None and s.stream == stream else 1.0) for power, s in held
    ) / total)  # fmt: skip
    return Strength(stream, values)


def behind_norm(
    call: Call, source: int, strength: Strength | None, profile: Profile
) -> tuple[float, Strength | None, Profile]:
    """What a norm of rows does to a gradient that goes with the power of the row.

    Args:
        call: the norm.
        source: what it divides by its own power.
        strength: of the gradient of its output.
        profile: where the gradient of ``source`` is strong, were all rows alike but for their
            powers.

    Returns:
        The gradient's power over that of one that knows nothing of the row, its strength, and
        where it is strong: where S differs it is divided by small powers more often.
    """
    stream = _stream_of(call, source)
    if stream is None:
        return 1.0, None, profile
    rank = len(call.states[source].shape)
    here = even(profile, rank).mean(axis=-1) * np.ones_like(stream.share)
    own = here * (stream.share > 0)
    if own.sum() <= 0:
        return 1.0, None, profile
    share = float((own * stream.share).sum() / own.sum())
    inverse = 1 / (share * stream.powers + 1 - share)
    level = float(stream.mass @ inverse)
    same = strength is not None and strength.stream == stream.start
    values = inverse / level * (strength.values if strength is not None and same else 1.0)
    factor = float(stream.mass @ values)
    strength = Strength(stream.start, values / factor)
    if stream.kind:
        rows = np.where(stream.share > 0, factor * max(level / _divided_by(call), 1.0), 1.0)
        profile, found = settled(even(profile, rank) * rows[..., None])
        return found, strength, profile
    return 1 + float(own.sum() / here.sum()) * (factor - 1), strength, profile


def _divided_by(call: Call) -> float:
    """E[1/a] of the power a that a recorded norm divides by, over 1/E[a], all rows together."""
    divided: NormPower | None = call.parts.kept(call.operation, "divided")
    return 1.0 if divided is None else divided.expected()[1] * divided.power


def keeps_rows(call: Call, tensor: int) -> bool:
    """Whether what an input receives comes from its own rows, all along the last axis."""
    given, made = call.graph.tensors[tensor].shape, call.shape()
    name = call.name
    if name in _PRODUCTS:
        first = _PRODUCTS[name]
        other = call.tensor(first + 1)
        return tensor == call.tensor(first) and other is not None and is_weight(call.graph, other)
    if name in _BATCHED:
        return tensor == call.tensor(_BATCHED[name]) and tensor != call.tensor(_BATCHED[name] + 1)
    if name in FUSED:
        return tensor == call.tensor(0)
    if name in ("transpose", "permute"):
        return _last_stays(call.operation, len(given))
    if name in _VIEWS:
        n = min(len(given), len(made)) - 1
        return given[-1:] == made[-1:] or given[:n] == made[:n]
    if name in ROW_NORMS or name in _PASSED | _TOGETHER:
        return given[-1:] == made[-1:] and prod(given) >= prod(made)
    state, target = call.made(), call.states[tensor]
    return given == made and state.base.key == target.base.key


def _last_stays(operation: Operation, rank: int) -> bool:
    if functional_name(operation.name) == "transpose":
        return all(int(d) % rank != rank - 1 for d in operation.args[1:3])
    return int(operation.args[1][-1]) % rank == rank - 1


def _stream_of(call: Call, source: int) -> Stream | None:
    streams = call.parts.streams
    if source not in streams:
        streams[source] = _found(call, source)
    return streams[source]


def _found(call: Call, source: int) -> Stream | None:
    (start, rows), state = _start(call.graph, call.states, source), call.states[source]
    shape, first = state.shape, call.states[start]
    if state.second_moment <= 0 or len(shape) < 2 or first.shape[-1:] != shape[-1:]:
        return None
    variance, kind = _of_one_kind(call, start)
    if variance < _LEAST:
        return None
    powers, mass = chi_square(round(variance, 4))
    # Of so many rows none is weaker than this: where E[1/S] has no value, one run has.
    lowest = float(np.interp(1 / (2 * prod(shape[:-1])), np.cumsum(mass), powers))
    began = first.second_moment * even(first.profile, len(first.shape)).mean(axis=-1) * kind
    now = state.second_moment * even(state.profile, len(shape)).mean(axis=-1)
    if rows is not None and began.shape[-1:] != (1,):
        began = began[..., slice(*rows)]
    if not (began > 0).any():
        return None
    fits = all(n in (1, m) for n, m in zip(began.shape, shape, strict=False))
    if began.ndim != now.ndim or not fits:
        # Through a view that names the rows otherwise.
        began = np.full((1,) * now.ndim, began[began > 0].mean())
    share = np.divide(began, now, out=np.zeros(np.broadcast_shapes(began.shape, now.shape)),
                      where=now > 0)  # fmt: skip
    others = kind.size > 1 and bool((share == 0).any())
    return Stream(start, np.clip(share, 0.0, 1.0), np.maximum(powers, lowest), mass, others)


def _of_one_kind(call: Call, start: int) -> tuple[float, Array]:
    """Relative variance of the rows' powers at the start, and which rows are meant.

    Where rows of several tensors stand side by side, those that differ and are weak count most.
    """
    state, maker = call.states[start], call.graph.producer.get(start)
    few, rank = 2 / max(state.shape[-1], 1), len(state.shape)
    everywhere: Array = np.ones((1,) * (rank - 1))
    if maker is None or functional_name(maker.name) != "cat":
        return varies(call, start, few, 12), everywhere
    dim = (int(maker.args[1]) if len(maker.args) > 1 else 0) % rank
    if dim != rank - 2:
        return varies(call, start, few, 12), everywhere
    most, found, first = 0.0, (0.0, everywhere), 0
    for ref in maker.args[0]:
        part = call.states[ref.tensor]
        count = part.shape[dim]
        if part.second_moment > 0:
            variance = varies(call, ref.tensor, few, 12)
            if variance * count / part.second_moment > most:
                most = variance * count / part.second_moment
                kind = np.zeros(state.shape[dim])
                kind[first : first + count] = 1.0
                found = variance, kind.reshape((1,) * (rank - 2) + (-1,))
        first += count
    return found


def _start(
    graph: Graph, states: Mapping[int, State], tensor: int
) -> tuple[int, tuple[int, int] | None]:
    """Back through the sums of a stream: the older summand is the stream, the other a branch.

    Returns:
        The tensor that it starts from, and the rows of it that are left; None for all.
    """
    rows: tuple[int, int] | None = None
    for _ in range(_FURTHEST):
        maker = graph.producer.get(tensor)
        if maker is None:
            break
        name, shape = functional_name(maker.name), graph.tensors[tensor].shape
        if name in _PASSED and graph.tensors[maker.inputs[0]].shape[-1:] == shape[-1:]:
            tensor = maker.inputs[0]
            rows = _rows_before(maker, graph.tensors[tensor].shape, rows)
            continue
        summands = [a.tensor for a in maker.args[:2] if isinstance(a, Ref)]
        summands = [t for t in summands if states[t].second_moment > 0]
        if name not in ("add", "sub") or not summands:
            break
        # Behind a table of positions rows have other powers than before.
        if any(graph.tensors[t].shape != shape or states[t].known is not None
               or is_weight(graph, t) for t in summands):  # fmt: skip
            break
        tensor = min(summands, key=lambda t: _age(graph, t))
    return tensor, rows


def _rows_before(
    maker: Operation, given: Sequence[int], rows: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Rows of what a slice was taken of, given those of the slice."""
    if maker.name != "slice" or len(given) < 2 or len(maker.args) < 4:
        return rows
    if int(maker.args[1]) % len(given) != len(given) - 2:
        return rows
    first, last, _ = slice(*maker.args[2:4]).indices(given[-2])
    return (first, last) if rows is None else (first + rows[0], first + rows[1])


def _age(graph: Graph, tensor: int) -> int:
    maker = graph.producer.get(tensor)
    return -1 if maker is None else maker.index
