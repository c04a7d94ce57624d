"""Roles of the parameters that no product sums over: tables, norms, biases, gates, tokens."""

from math import prod

from fanin.axes import Axes
from fanin.graph.evidence import Facts, at
from fanin.graph.flow import TRANSPARENT, Step
from fanin.graph.following import follow
from fanin.graph.graph import TensorKind
from fanin.graph.patterns.channels import labels_at
from fanin.graph.role import ParameterRole, Role
from fanin.graph.use import Part, Use
from fanin.graph.uses.lookup import ancestors_named

_ORDER = (
    Part.TABLE,
    Part.SCALE,
    Part.SHIFT,
    Part.BIAS,
    Part.MAGNITUDE,
    Part.SLOPE,
    Part.FACTOR,
    Part.TERM,
    Part.TOKEN,
    Part.OTHER,
)
_COUNTING = frozenset(("arange", "cumsum", "linspace", "range"))


def read_lesser(facts: Facts, name: str, uses: list[Use]) -> ParameterRole:
    """Role of a table, a vector or a token from the part that it plays."""
    use = min(uses, key=lambda u: _ORDER.index(u.part))
    readers = {
        Part.TABLE: _table,
        Part.SCALE: _norm_scale,
        Part.SHIFT: _norm_shift,
        Part.BIAS: _bias,
        Part.MAGNITUDE: _magnitude,
        Part.SLOPE: _slope,
        Part.FACTOR: _factor,
        Part.TERM: _term,
        Part.TOKEN: _token,
        Part.OTHER: _other,
    }
    role, kind, why, from_name = readers[use.part](facts, name, use)
    axes = use.axes
    shape = facts.graph.parameters[name].shape
    if axes is None or (role is Role.POSITION_TABLE and use.part is not Part.TABLE):
        axes = _rows(shape)
    following = follow(facts.flow, use.result)
    signal = role in (Role.BIAS, Role.RECURRENT_BIAS, Role.NORM_SCALE, Role.NORM_BIAS)
    return ParameterRole(
        parameter=name,
        role=role,
        axes=axes,
        activation=following.activation if signal else None,
        norm_after=following.norm and signal,
        depth=facts.depths.get(use.result, 0),
        residual_branches=_branches(facts, use),
        kind=kind,
        evidence=(why,),
        from_name=from_name,
        offset=use.offset,
    )


_Found = tuple[Role, str, str, bool]


def _rows(shape: tuple[int, ...]) -> Axes:
    """A table of independent vectors: the last axis holds one."""
    if len(shape) < 2:
        return Axes(outputs=tuple(range(len(shape))))
    return Axes(outputs=len(shape) - 1, batch=tuple(range(len(shape) - 1)))


def _branches(facts: Facts, use: Use) -> int:
    add = facts.branch_ends.get(use.result)
    ends = (Part.FACTOR, Part.BIAS, Part.SCALE, Part.SHIFT, Part.TERM)
    return add.branches if add is not None and use.part in ends else 0


def _table(facts: Facts, name: str, use: Use) -> _Found:
    where = at(use.operation)
    if _feeds_scores(facts, use.result):
        return Role.POSITION_TABLE, "attention bias", f"{where}: added to attention scores", False
    indices = [t for t in use.operation.inputs if t != use.operand]
    counted = {n for t in indices for n in ancestors_named(facts.reading, t, _COUNTING)}
    if counted:
        counting = ", ".join(sorted(counted))
        return Role.POSITION_TABLE, "embedding", f"{where} looks up {counting} numbers", False
    given = any(_is_stored(facts, t) for t in indices)
    if given and "pos" in name.rpartition(".")[0].rpartition(".")[2].lower():
        why = f"{where} looks it up by a stored index, and its name says position"
        return Role.POSITION_TABLE, "embedding", why, True
    return Role.EMBEDDING, "embedding", f"looked up by {where}", False


def _is_stored(facts: Facts, tensor: int) -> bool:
    """Whether an index comes from a buffer, an input or a constant, not from token ids alone."""
    front, seen = [tensor], set[int]()
    while front:
        current = front.pop()
        if current in seen:
            continue
        seen.add(current)
        if facts.graph.tensors[current].kind is not TensorKind.COMPUTED:
            return True
        maker = facts.flow.made_by(current)
        front.extend(maker.inputs if maker is not None else ())
    return False


def _feeds_scores(facts: Facts, tensor: int) -> bool:
    """Whether a signal is added to attention scores, or is the mask of an attention."""
    front, seen = [tensor], set[int]()
    scores = facts.attention.scores
    cores = {core.operation.index: core for core in facts.reading.attentions}
    while front:
        current = front.pop()
        if current in seen:
            continue
        seen.add(current)
        for consumer in facts.graph.consumers.get(current, ()):
            core = cores.get(consumer.index)
            if core is not None and current not in (core.query, core.key, core.value):
                return True
            step = facts.flow.step(consumer)
            if step is Step.ADD and consumer.outputs[0] in scores:
                return True
            if step in TRANSPARENT or (step is Step.BEND and consumer.name == "sigmoid"):
                front.extend(consumer.outputs[:1])
    return False


def _norm_scale(facts: Facts, name: str, use: Use) -> _Found:
    return Role.NORM_SCALE, "norm", f"scale of {at(use.operation)}", False


def _norm_shift(facts: Facts, name: str, use: Use) -> _Found:
    return Role.NORM_BIAS, "norm", f"shift of {at(use.operation)}", False


def _bias(facts: Facts, name: str, use: Use) -> _Found:
    where = at(use.operation)
    recurrence = facts.recurrence
    if name in recurrence.biases:
        return Role.RECURRENT_BIAS, recurrence.biases[name], f"bias of {where}", False
    for weight in facts.weights_beside(name):
        known = recurrence.recurrent.get(weight) or recurrence.inputs.get(weight)
        if known is not None:
            return Role.RECURRENT_BIAS, known[0], f"added with {weight} by {where}", False
    return Role.BIAS, "bias", f"added by {where}", False


def _magnitude(facts: Facts, name: str, use: Use) -> _Found:
    how = ", ".join(use.arithmetic) or "arithmetic"
    why = f"scales the weight of {at(use.operation)} ({how})"
    return Role.NORM_SCALE, "weight norm", why, False


def _slope(facts: Facts, name: str, use: Use) -> _Found:
    return Role.GATE, "prelu", f"slope of {at(use.operation)}", False


def _factor(facts: Facts, name: str, use: Use) -> _Found:
    where = at(use.operation)
    if use.source is not None and _normalised(facts, use.source):
        return Role.NORM_SCALE, "norm", f"{where} scales a normalised signal", False
    size = prod(facts.graph.parameters[name].shape)
    if use.result in facts.branch_ends:
        joined = at(facts.branch_ends[use.result].operation)
        role = Role.LAYER_SCALE if size > 1 else Role.GATE
        return role, "elementwise", f"{where} scales the branch that joins at {joined}", False
    return Role.GATE, "elementwise", f"{where} multiplies a signal by it", False


def _normalised(facts: Facts, tensor: int) -> bool:
    met = facts.flow.back(tensor, lambda _, step: step in TRANSPARENT, limit=12)
    return any(m is not None and facts.flow.step(m) is Step.NORM for _, m in met)


def _term(facts: Facts, name: str, use: Use) -> _Found:
    where = at(use.operation)
    shape = facts.reading.shape(use.result)
    known = use.labels.expanded(shape)
    axes = range(len(facts.graph.parameters[name].shape))
    varying = {dim for axis in axes for dim, atom in known.dimensions_of(axis) if atom.size > 1}
    if use.family == "attention bias" or use.result in facts.attention.scores:
        return Role.POSITION_TABLE, "attention bias", f"{where} adds it to attention scores", False
    if use.source is None:
        return Role.BIAS, "shift", f"added by {where}", False
    behind = [u for u in facts.flow.weights_behind(use.source)[0] if u.part is Part.WEIGHT]
    if behind and _along_channels(facts, behind[0], use.source, varying):
        return _bias(facts, name, use)
    if len(varying) <= 1 and _normalised(facts, use.source):
        return Role.NORM_BIAS, "norm", f"{where} shifts a normalised signal", False
    spread = _spread_by(facts, use, varying)
    if spread:
        return Role.TOKEN, "elementwise", f"{where} meets every signal with each of it", False
    if len(varying) >= 2:
        return Role.POSITION_TABLE, "elementwise", f"{where} adds another row to each place", False
    return Role.BIAS, "shift", f"{where} shifts a signal by it", False


def _spread_by(facts: Facts, use: Use, varying: set[int]) -> bool:
    """Whether a signal is repeated along what a parameter varies along: prototypes, centres."""
    if use.source is None:
        return False
    shape, whole = facts.reading.shape(use.source), facts.reading.shape(use.result)
    sizes = (1,) * (len(whole) - len(shape)) + shape
    return any(sizes[dim] == 1 < whole[dim] for dim in varying)


def _along_channels(facts: Facts, weight: Use, tensor: int, varying: set[int]) -> bool:
    """Whether a parameter varies only along the outputs of the weight that it is added to.

    The outputs of each of several weights, where these are stacked.
    """
    labelled = labels_at(facts.flow, weight, tensor)
    if labelled is None or labelled[0].dims is None:
        return len(varying) <= 1
    followed = range(len(labelled[0].starts))
    return varying <= {dim for axis in followed for dim, _ in labelled[0].dimensions_of(axis)}


def _token(facts: Facts, name: str, use: Use) -> _Found:
    return Role.TOKEN, use.family, f"stands among the signals of {at(use.operation)}", False


def _other(facts: Facts, name: str, use: Use) -> _Found:
    what = ", ".join(dict.fromkeys(at(u.operation) for u in facts.uses[name]))
    return Role.UNKNOWN, use.family, f"read by {what}, which fanin does not know", False
