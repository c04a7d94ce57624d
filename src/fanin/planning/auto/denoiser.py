"""Diffusion networks: what starts at zero in a UNet and in a DiT, and how such a net is told.

A denoiser gives something of its input's shape, and reads a time step beside it: one number a
sample, turned into sines and cosines before the first weight reads it.  Ho et al. (2020) and
Dhariwal & Nichol (2021) start at zero the last convolution of every residual block, the output of
every attention and the last convolution of the model (the former: at 1e-10), Peebles & Xie (2023)
the last layer of a transformer and its modulations, which are at zero in any model.  Each of them
gets a gradient at the first step or at the second: branches are closed in one place only, by their
gate or by their last weight, and a branch within a closed branch is left open.
"""

import math

from fanin.graph.graph import Graph, TensorKind
from fanin.graph.role import Role
from fanin.graph.vocabulary import word
from fanin.planning.auto.intent import deliberate_zero, shows_intent
from fanin.planning.auto.operands import operands
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject, once_per_model
from fanin.schemes import Zeros

_WRITERS = frozenset({Role.RESIDUAL_WRITER, Role.ATTENTION_OUT, Role.DOWN_PROJECTION})
_MOST_CHANNELS = 2
"""Outputs per channel of the input: a mean, or a mean and a variance."""


def closed_in_denoiser(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """Zeros for what a diffusion network starts at zero; None for every other weight."""
    role = subject.role
    if role.role not in _WRITERS | {Role.HEAD}:
        return None
    why = time_step(circumstances)
    if not why or subject.parametrised or deliberate_zero(subject, circumstances):
        return None
    if role.role is Role.HEAD and not subject.writes_residual and not _shut(circumstances):
        what = "the output of a diffusion net: 0, its mean (Ho et al. 2020)"
    elif role.role in _WRITERS and _closes(subject) and _is_unet(circumstances):
        what = "end of a residual branch of a diffusion UNet: 0, so that it starts as the identity"
    else:
        return None
    return Decision(Zeros(), what, (why, *role.evidence))


def _closes(subject: Subject) -> bool:
    """Whether zeros here close a residual branch that nothing else closes or encloses."""
    role, branch = subject.role, subject.role.branch
    if branch is None or not subject.writes_residual or role.post_norm or role.norm_after:
        return False
    if branch.gated or branch.bent or branch.factors or branch.constant < 1:
        return False
    # A block of attention ends in a matrix of its own; a long skip over the lower half of the net
    # ends in the convolution that brings it up, and closed it would take all of that half away.
    taps = math.prod(subject.shape[axis] for axis in subject.axes.receptive)
    outermost = not branch.nested and (taps == 1 or not branch.encloses)
    return outermost and branch.place == branch.layers


@once_per_model
def _is_unet(circumstances: Circumstances) -> bool:
    """Whether convolutions write to the residual streams."""
    return any(s.writes_residual and "convolution" in s.role.kind for s in circumstances)


@once_per_model
def _shut(circumstances: Circumstances) -> bool:
    """Whether the author starts a norm at zero: behind one, a zero head would never learn."""
    norms = (s for s in circumstances if s.role.role is Role.NORM_SCALE)
    return shows_intent(circumstances) and any(
        s.constant == 0 and s.role.offset == 0 and not s.writes_residual for s in norms
    )


@once_per_model
def time_step(circumstances: Circumstances) -> str:
    """What shows that a model denoises: its time step and its output; empty for other models."""
    graph = circumstances.graph
    if graph is None:
        return ""
    sample = _sample(graph)
    if sample is None:
        return ""
    shape = graph.tensors[sample].shape
    one_each = [
        t
        for t in graph.inputs
        if t != sample and math.prod(graph.tensors[t].shape) in (1, shape[0])
    ]
    waves = _waves(graph, one_each, circumstances)
    if not waves & {t for read in operands(circumstances).values() for t in read}:
        return ""
    sizes = "×".join(map(str, shape[1:]))
    return f"its output has its input's shape, {sizes}, and it reads sines of one number a sample"


def _sample(graph: Graph) -> int | None:
    """The input whose shape an output has, channels aside, which may be twice as many."""
    for out in graph.outputs:
        whole = graph.tensors[out].shape
        for given in graph.inputs:
            shape = graph.tensors[given].shape
            if len(shape) != len(whole) or len(shape) < 2 or "int" in graph.tensors[given].dtype:
                continue
            differing = [(a, b) for a, b in zip(shape, whole, strict=True) if a != b]
            if not differing or (
                len(differing) == 1
                and shape[0] == whole[0]
                and differing[0][1] == _MOST_CHANNELS * differing[0][0]
            ):
                return given
    return None


def _waves(graph: Graph, inputs: list[int], circumstances: Circumstances) -> set[int]:
    """What becomes of the sines and cosines of these inputs before a layer reads it."""
    layers = {s.name for s in circumstances if s.is_layer_weight or s.is_table}
    front, seen = [(t, False) for t in inputs], set[tuple[int, bool]]()
    found: set[int] = set()
    while front:
        state = front.pop()
        if state in seen:
            continue
        seen.add(state)
        tensor, waved = state
        if waved:
            found.add(tensor)
        for operation in graph.consumers.get(tensor, ()):
            if not _reads(graph, operation.inputs, layers):
                wave = waved or word(operation) in ("sin", "cos")
                front.extend((out, wave) for out in operation.outputs)
    return found


def _reads(graph: Graph, tensors: tuple[int, ...], layers: set[str]) -> bool:
    """Whether one of the tensors is a layer's weight, or made of one."""
    infos = [graph.tensors[t] for t in tensors]
    return any(
        (info.kind is TensorKind.PARAMETER and info.name in layers)
        or not layers.isdisjoint(info.of_parameters)
        for info in infos
    )
