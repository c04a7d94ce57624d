"""Embeddings, tied or not, and position tables."""

import math
from collections.abc import Mapping

from fanin.graph.graph import Graph
from fanin.graph.role import Role
from fanin.graph.vocabulary import COPIES, NORMS, RESHAPES
from fanin.planning.auto.codebook import codebook
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject, once_per_model
from fanin.schemes import Normal

POSITION_STD = 0.02
"""BERT's and ViT's std, where no token table says how large its neighbours are."""

_LOOKUPS = frozenset({"embedding", "index", "index_select", "_embedding_bag"})
_SUMS = frozenset({"add", "add_", "_unsafe_add"})
_UNCHANGED = RESHAPES | COPIES | {"expand", "expand_copy", "native_dropout", "dropout"}


def embedding(subject: Subject, circumstances: Circumstances) -> Decision:
    """Tied: d^(−½), so that logits have unit variance; untied: unit RMS.

    A factor of the model's own between the stream and the logits (T5's d^(−½)) does that work
    already. Where a norm reads the rows and nothing else does, as in BERT, their size does not show
    and only sets how fast they turn: d^(−½) makes them as quick as the matrices beside them under
    one learning rate. Tables that are added to one another start equally large.
    """
    role, evidence = subject.role, subject.role.evidence
    if role.kind == "attention bias":
        return _bias_of_scores(subject, circumstances)
    if role.role is Role.POSITION_TABLE:
        return _positions(subject, circumstances)
    kept = codebook(subject, circumstances)
    if kept is not None:
        return kept
    std = _std(subject, circumstances)
    if role.role is Role.TIED_HEAD:
        factor = _logit_factor(subject, circumstances)
        if factor == 1:
            why = f"embedding tied to the head: d^(−½) = {std:.4g}, so that logits have std about 1"
        else:
            why = f"embedding tied to the head, whose logits the model multiplies by {factor:.4g}"
        return Decision(Normal(std=std), why, evidence)
    leader = _leader(subject, circumstances)
    if leader is not None and _std(leader, circumstances) != std:
        why = f"embedding: as large as {leader.name}, which it is added to"
        return Decision(Normal(std=_std(leader, circumstances)), why, evidence)
    if std != 1.0:
        why = f"embedding: d^(−½) = {std:.4g}, as a norm alone reads it: its size does not show"
        return Decision(Normal(std=std), why, evidence)
    return Decision(Normal(std=std), "embedding: unit RMS", evidence)


def _std(subject: Subject, circumstances: Circumstances) -> float:
    if subject.role.role is Role.TIED_HEAD:
        factor = _logit_factor(subject, circumstances)
        return float(f"{min(1.0, 1 / (factor * math.sqrt(subject.shape[-1]))):.6g}")
    width = _read_by_norms_alone(circumstances).get(subject.name)
    if width is not None:
        return float(f"{1 / math.sqrt(width):.6g}")
    return 1.0


@once_per_model
def _read_by_norms_alone(circumstances: Circumstances) -> Mapping[str, int]:
    """Tables whose rows, or sums of rows, are read by norms and nothing else -> the rows' width.

    A residual stream that starts with them is no such sum: there their size shows beside what the
    branches add.
    """
    graph = circumstances.graph
    if graph is None:
        return {}
    rows = _rows_of_tables(circumstances)
    met: dict[str, int] = {}
    elsewhere: set[str] = set()
    for tensor, names in rows.items():
        if graph.tensors[tensor].of_parameters or graph.tensors[tensor].name:
            continue
        readers = graph.consumers.get(tensor, ())
        ends = [op for op in readers if not op.outputs or op.outputs[0] not in rows]
        if any(op.name in NORMS for op in ends):
            met.update(dict.fromkeys(names, graph.tensors[tensor].shape[-1]))
        if not readers or any(op.name not in NORMS for op in ends):
            elsewhere |= names
    tables = {s.name for s in circumstances if s.role.role is Role.EMBEDDING}
    return {name: width for name, width in met.items() if name in tables - elsewhere}


@once_per_model
def _factors(circumstances: Circumstances) -> Mapping[str, float]:
    """Table -> the constant on the stream that it multiplies as a head; without it, not there."""
    graph = circumstances.graph
    found: dict[str, float] = {}
    if graph is None:
        return found
    tables = {s.name for s in circumstances if s.role.role is Role.TIED_HEAD}
    for operation in graph.operations:
        named = {n for t in operation.inputs for n in _names(graph, t)} & tables
        made = operation.outputs and not graph.tensors[operation.outputs[0]].of_parameters
        if not named or not made or operation.name in _LOOKUPS:
            continue
        streams = [t for t in operation.inputs if not _names(graph, t)]
        found.update(dict.fromkeys(named, _constant_upstream(graph, streams[0]) if streams else 1))
    return found


def _logit_factor(subject: Subject, circumstances: Circumstances) -> float:
    return _factors(circumstances).get(subject.name, 1.0)


def _names(graph: Graph, tensor: int) -> tuple[str, ...]:
    info = graph.tensors[tensor]
    return (info.name, *info.of_parameters) if info.name else info.of_parameters


def _constant_upstream(graph: Graph, tensor: int) -> float:
    """The product of constant factors back to the first operation of another kind."""
    factor = 1.0
    while (operation := graph.producer.get(tensor)) is not None and len(operation.inputs) == 1:
        if operation.name in ("mul", "div"):
            number = next((a for a in operation.args if isinstance(a, int | float)), 0)
            if not number:
                break
            factor *= float(number) if operation.name == "mul" else 1 / float(number)
        elif operation.name not in _UNCHANGED:
            break
        tensor = operation.inputs[0]
    return abs(factor) or 1.0


def _kept(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """A parameter that is added whole, which no torch.nn class made: its author's values.

    One that is looked up is a table like the tokens', whoever wrote its class.
    """
    made = subject.layer_type in {"Embedding", "EmbeddingBag"}
    if subject.on_meta or made or subject.name in _looked_up(circumstances):
        return None
    value = "" if subject.constant is None else f" ({subject.constant:g})"
    reason = f"position table: its constructor's values{value} stay"
    return leave(reason, *subject.role.evidence)


@once_per_model
def _looked_up(circumstances: Circumstances) -> frozenset[str]:
    """Parameters whose rows ``embedding`` picks."""
    graph = circumstances.graph
    if graph is None:
        return frozenset()
    lookups = (op for op in graph.operations if op.name == "embedding")
    return frozenset(name for op in lookups for t in op.inputs for name in _names(graph, t))


def _bias_of_scores(subject: Subject, circumstances: Circumstances) -> Decision:
    """Relative positions: small beside logits of std 1, so that content is seen too."""
    reason = f"added to attention's logits: N(0, {POSITION_STD}²)"
    kept = _kept(subject, circumstances)
    return kept or Decision(Normal(std=POSITION_STD), reason, subject.role.evidence)


def _positions(subject: Subject, circumstances: Circumstances) -> Decision:
    """As large as the token embeddings that they are added to."""
    kept = _kept(subject, circumstances)
    if kept is not None:
        return kept
    evidence = subject.role.evidence
    leader = _leader(subject, circumstances)
    if leader is None:
        reason = f"position table: N(0, {POSITION_STD}²)"
        return Decision(Normal(std=POSITION_STD), reason, evidence)
    reason = f"position table: as large as {leader.name}, which it is added to"
    return Decision(Normal(std=_std(leader, circumstances)), reason, evidence)


def _leader(subject: Subject, circumstances: Circumstances) -> Subject | None:
    """The token table that a table's rows are added to, a tied one first; None for none."""
    together = tables_added_together(circumstances).get(subject.name, frozenset())
    subjects = circumstances.subjects
    for role in (Role.TIED_HEAD, Role.EMBEDDING):
        found = [n for n in subjects if n in together and subjects[n].role.role is role]
        if found:
            return subjects[found[0]]
    return None


@once_per_model
def tables_added_together(circumstances: Circumstances) -> Mapping[str, frozenset[str]]:
    """Table -> all tables whose rows are summed with its rows, itself included."""
    together: dict[str, frozenset[str]] = {}
    for names in _rows_of_tables(circumstances).values():
        for name in names if len(names) > 1 else ():
            together[name] = together.get(name, frozenset()) | names
    return together


@once_per_model
def _rows_of_tables(circumstances: Circumstances) -> Mapping[int, frozenset[str]]:
    """Tensors that are rows of tables, sums of such alone, or such side by side -> those tables.

    Followed through views, dropout and constant factors, up to the first operation of another
    kind.
    """
    graph = circumstances.graph
    behind: dict[int, frozenset[str]] = {}
    if graph is None:
        return behind
    tables = {s.name for s in circumstances if s.is_table}
    for tensor in graph.tensors.values():
        if tensor.name in tables:
            behind[tensor.id] = frozenset({tensor.name})
    for operation in graph.operations:
        data = [t for t in operation.inputs if graph.tensors[t].dtype.startswith(("float", "bf"))]
        known = [behind[t] for t in data if t in behind]
        sums = operation.name in _SUMS or operation.name == "cat"
        passes = operation.name in _LOOKUPS | _UNCHANGED or operation.name in ("mul", "div") or sums
        if known and passes and not (sums and len(known) < len(data)):
            behind.update(dict.fromkeys(operation.outputs[:1], frozenset().union(*known)))
    return behind
