"""Codebooks: tables of which a signal picks the row that is nearest to it (VQ-VAE).

The codes must lie where the signals do that they stand for.  No formula knows where that will be:
authors start them small (van den Oord et al. 2017: U(−1/K, 1/K)), at the centres of a first batch
or on a sphere, and the constructor's values are that choice.
"""

from fanin.graph.graph import Graph, Operation
from fanin.graph.vocabulary import MOVES, word
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject

_CHOICES = frozenset(("argmin", "argmax", "min", "max", "topk", "sort"))
_LOOKUPS = frozenset(("embedding", "index", "index_select", "gather", "take"))


def codebook(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """Leave a table whose own rows decide which of them is looked up; None for another."""
    graph = circumstances.graph
    if graph is None or subject.on_meta:
        return None
    choice = _choice(graph, subject.name)
    if choice is None:
        return None
    why = "codebook: its constructor's values stay, as codes must lie where signals will"
    fact = f"{choice} picks among its rows by their distance, and the row that it picks is read"
    return leave(why, fact, *subject.role.evidence)


def _choice(graph: Graph, parameter: str) -> str | None:
    """The operation that picks rows of a table by what it computes from the table itself."""
    own = {t.id for t in graph.tensors.values() if parameter in (t.name, *t.of_parameters)}
    lookups = [
        op for op in graph.operations if word(op) in _LOOKUPS and op.inputs and own & set(op.inputs)
    ]
    indices = {t for op in lookups for t in op.inputs} - own
    pickers = {
        maker.index: maker
        for t in indices
        for maker in (_behind_moves(graph, t),)
        if maker is not None and word(maker) in _CHOICES
    }
    if not pickers:
        return None
    weights = {t.id for t in graph.tensors.values() if t.of_parameters or t.name} - own
    front, seen, found = own, set(own), None
    while front:
        readers = [op for t in front for op in graph.consumers.get(t, ())]
        picking = [op for op in readers if op.index in pickers]
        if picking and found is None:
            found = f"{picking[0].name} #{picking[0].index}"
        # What another weight makes of it is no distance to it any more.
        front = {
            out
            for reader in readers
            if reader.index not in pickers
            and word(reader) not in _LOOKUPS
            and not weights & set(reader.inputs)
            for out in reader.outputs
        } - seen
        seen |= front
    # A tied head's logits are an output, though the token that they favour may be read again.
    return found if seen.isdisjoint(graph.outputs) else None


def _behind_moves(graph: Graph, tensor: int) -> Operation | None:
    maker = graph.producer.get(tensor)
    while maker is not None and word(maker) in MOVES and word(maker) not in _CHOICES:
        maker = graph.producer.get(maker.inputs[0]) if maker.inputs else None
    return maker
