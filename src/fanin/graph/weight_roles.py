"""Roles of the parameters that are summed over against a signal."""

from collections.abc import Sequence
from math import prod

from fanin.axes import Axes
from fanin.graph.evidence import Facts, at
from fanin.graph.following import before, follow, meets_norms_alone, reads_norm
from fanin.graph.patterns.channels import Runs, count, partition
from fanin.graph.patterns.ending import chooses, ends_in_output
from fanin.graph.patterns.gates import gate_names
from fanin.graph.patterns.neutral import neutral_at_zero
from fanin.graph.role import ParameterRole, Role
from fanin.graph.stacking import replace_axes, stacked
from fanin.graph.use import Part, Use

_NEVER_WRITERS = (Role.ROUTER, Role.MODULATION, Role.RECURRENT, Role.RECURRENT_INPUT)
"""They choose or scale what is written; their own values do not join the stream."""

_SHAPING = frozenset(("exp", "softplus", "log1p", "sigmoid", "expm1", "gt", "ge", "lt", "le"))
"""Arithmetic that makes a width, a share or a mask of a parameter: exp(rho) of a Bayesian layer."""

_Found = tuple[Role, Axes | None, tuple[str, ...], str]


def read_weight(facts: Facts, name: str, uses: list[Use]) -> ParameterRole:
    """Role of a weight from the patterns that it takes part in, most telling first."""
    weights = [use for use in uses if use.part is Part.WEIGHT]
    use = next((u for u in weights if u.axes is not None), weights[0])
    shape = facts.graph.parameters[name].shape
    axes = stacked(facts, weights, shape, use.axes)
    role, axes, blocks, why = _role(facts, name, uses, use, axes)
    following = follow(facts.flow, use.result)
    evidence = [_summing(use, axes, shape), why]
    if following.activation is not None and following.activation.name != "linear":
        evidence.append(f"{following.activation.name}: {following.why} follows")
    writer = facts.writers.get(name) if role not in _NEVER_WRITERS else None
    if writer is not None:
        evidence.append(
            f"{at(writer.operation)} adds its result to the stream that the branch read, "
            f"one of {writer.branches} on that path"
        )
    branch = writer or facts.inside.get(name)
    shortcut = facts.shortcuts.get(name)
    if shortcut is not None:
        evidence.append(f"projects the stream of the residual {at(shortcut.operation)}")
    return ParameterRole(
        parameter=name,
        role=role,
        axes=axes,
        activation=following.activation,
        before=before(facts.flow, use.source),
        norm_before=reads_norm(facts.flow, use.source, facts.streams),
        norm_after=following.norm,
        norms_alone=all(meets_norms_alone(facts.flow, each.result) for each in weights),
        depth=facts.depths.get(use.result, 0),
        residual_branches=writer.branches if writer is not None else 0,
        stream_branches=branch.branches if branch is not None else 0,
        post_norm=branch is not None and branch.post_norm,
        branch=facts.branches.get(name),
        neutral_at_zero=role is Role.MODULATION
        and all(
            neutral_at_zero(facts.flow, u, facts.branch_ends, facts.residuals) for u in weights
        ),
        logit_std=facts.attention.logit_std.get(name),
        compared=facts.compared.get(name),
        kind=_kind(facts, name, use),
        block_names=blocks,
        evidence=tuple(sentence for sentence in evidence if sentence),
        offset=use.offset,
    )


def _kind(facts: Facts, name: str, use: Use) -> str:
    recurrence = facts.recurrence
    known = recurrence.recurrent.get(name) or recurrence.inputs.get(name)
    return known[0] if known is not None else use.family


def _role(facts: Facts, name: str, uses: list[Use], use: Use, axes: Axes | None) -> _Found:
    shape = facts.graph.parameters[name].shape
    tables = [u for u in uses if u.part is Part.TABLE]
    if tables:
        why = f"looked up by {at(tables[0].operation)} and multiplied by {at(use.operation)}"
        return Role.TIED_HEAD, axes, (), why
    shaping = _SHAPING & set(use.arithmetic)
    if shaping and len(facts.reading.weights[use.operand].labels) > 1:
        how = ", ".join(sorted(shaping))
        return Role.GATE, axes, (), f"shapes, by {how}, a weight made of several parameters"
    recurrent = _recurrent(facts, name, axes, shape)
    if recurrent is not None:
        return recurrent
    adapter = facts.adapters.get(name)
    if adapter is not None:
        role = Role.ADAPTER_DOWN if adapter[0] == "down" else Role.ADAPTER_UP
        return role, axes, (), f"low-rank path added by {at(adapter[1])}"
    attending = _attending(facts, name, axes, shape)
    if attending is not None:
        return attending
    choice = chooses(facts.flow, use.result)
    if choice is not None:
        return Role.ROUTER, axes, (), f"{at(choice)} picks by its result"
    return _of_the_rest(facts, name, use, axes, shape)


def _recurrent(facts: Facts, name: str, axes: Axes | None, shape: tuple[int, ...]) -> _Found | None:
    recurrence = facts.recurrence
    if name in recurrence.recurrent:
        role, (kind, operation) = Role.RECURRENT, recurrence.recurrent[name]
        why = "its own result comes back to it"
    elif name in recurrence.inputs:
        role, (kind, operation) = Role.RECURRENT_INPUT, recurrence.inputs[name]
        why = "its result is added to a recurrent weight's"
    else:
        return None
    where = f" ({at(operation)})" if operation is not None else ""
    if axes is None or not axes.outputs:
        return role, axes, (), why + where
    names = gate_names(facts, name, kind)
    outputs = shape[axes.outputs[0]]
    if names and outputs % len(names) == 0 and len(names) > 1:
        axes = replace_axes(axes, (outputs // len(names),) * len(names))
    return role, axes, names, why + where


def _attending(facts: Facts, name: str, axes: Axes | None, shape: tuple[int, ...]) -> _Found | None:
    pieces = facts.attention.parts.get(name)
    if pieces:
        size = prod(shape[axis] for axis in axes.outputs) if axes is not None else 0
        letters = list(dict.fromkeys(letter for letter, _, _ in pieces))
        where = at(pieces[0][2])
        if len(letters) > 1 and not _same(pieces):
            named = _filled([(letter, runs) for letter, runs, _ in pieces], size)
            sizes, names = partition(named, size)
            if axes is not None and sizes and len(axes.outputs) == 1:
                axes = replace_axes(axes, sizes)
            return Role.PACKED_QKV, axes, names, f"{', '.join(letters)} of {where} come from it"
        covered = max((count(runs) for _, runs, _ in pieces), default=0)
        if covered in (0, size) or not size or axes is None or axes.block_sizes or axes.batch:
            role = {"q": Role.QUERY, "k": Role.KEY, "v": Role.VALUE}[letters[0]]
            return role, axes, (), f"{' and '.join(letters)} of {where}"
    taken = facts.attention.out.get(name)
    if taken is not None:
        return Role.ATTENTION_OUT, axes, (), f"reads what {at(taken)} gives"
    return None


def _same(pieces: Sequence[tuple[str, Runs, object]]) -> bool:
    """Several letters, but all made of the very same outputs: a shared projection."""
    by_letter: dict[str, Runs] = {}
    for letter, runs, _ in pieces:
        by_letter.setdefault(letter, runs)
    several = list(by_letter.values())
    return all(runs == several[0] for runs in several)


def _filled(pieces: list[tuple[str, Runs]], size: int) -> list[tuple[str, Runs]]:
    """Pieces with the gaps between them named, as in a matrix that packs q/k/v and an MLP."""
    at_row, gaps = 0, []
    for start, length in sorted({run for _, runs in pieces for run in runs}):
        if start > at_row:
            gaps.append((at_row, start - at_row))
        at_row = max(at_row, start + length)
    if size > at_row:
        gaps.append((at_row, size - at_row))
    return [*pieces, ("other", gaps)] if gaps else pieces


def _of_the_rest(
    facts: Facts, name: str, use: Use, axes: Axes | None, shape: tuple[int, ...]
) -> _Found:
    gating = facts.gating
    if name in gating.gates:
        where = at(gating.gates[name])
        packed = gating.packed.get(name)
        if packed and axes is not None and axes.outputs:
            sizes, names = partition(packed, shape[axes.outputs[0]])
            if max(sizes, default=1) == 1:  # rows that alternate are no matrices of their own
                return Role.GATE_PROJECTION, axes, (), f"{where} multiplies parts of its result"
            axes = replace_axes(axes, sizes)
            return Role.GATE_PROJECTION, axes, names, f"{where} multiplies its parts"
        return Role.GATE_PROJECTION, axes, (), f"its activated result gates {where}"
    if name in gating.ups:
        return Role.UP_PROJECTION, axes, (), f"{at(gating.ups[name])} gates its result"
    if name in gating.downs:
        return Role.DOWN_PROJECTION, axes, (), f"reads the product of {at(gating.downs[name])}"
    if name in gating.modulations:
        where = at(gating.modulations[name])
        return Role.MODULATION, axes, (), f"{where} scales a normalised stream by its result"
    if ends_in_output(facts.flow, use.result):
        return Role.HEAD, axes, (), "its result goes to the model's output and to no other weight"
    if name in facts.writers:
        return Role.RESIDUAL_WRITER, axes, (), ""
    return Role.WEIGHT, axes, (), ""


def _summing(use: Use, axes: Axes | None, shape: tuple[int, ...]) -> str:
    if axes is None:
        return f"{at(use.operation)} multiplies by it after {', '.join(use.arithmetic) or 'views'}"
    summed = [*axes.inputs, *axes.receptive]
    sizes = "×".join(str(shape[axis]) for axis in summed) or "1"
    return f"{at(use.operation)} sums over {sizes} along axes {tuple(summed)}"
