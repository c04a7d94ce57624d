"""Deep plain stacks, where keeping the second moment is not enough.

Without a norm or a skip, an error in the second moment q grows by Q′(q) per layer, the gradient by
χ1, samples grow alike, and chance alone spreads ln q by √(5L/n).  A stack is deep when one of them
shows over its L layers (``stack_depth``).  It then starts as an orthogonal linear map
(``propagation.isometry``): mirrored weights for any φ whose odd part has its greatest slope at 0,
orthogonal ones for φ that is odd itself.  The first layer makes the signal as small as the depth
asks for, and the layer behind the stack takes that factor back: its gradients, and so those of the
whole stack, would otherwise be smaller by it.  Else the gain of the stablest fixed point.
"""

import math
from dataclasses import dataclass

from fanin.graph.role import Activation, Role
from fanin.planning.auto.gain import LINEAR, name_of, squared_gain
from fanin.planning.auto.operands import path_from
from fanin.planning.auto.stack_curvature import logit_std
from fanin.planning.auto.stack_depth import Start, start_of, troubles_of
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject, once_per_model
from fanin.propagation.isometry import Isometry
from fanin.propagation.stability import StackPoint
from fanin.schemes import DeltaOrthogonal, Mirrored, Orthogonal, VarianceScaling
from fanin.schemes.scheme import Scheme

HEAD_STD = 0.25
"""Of the logits that any head starts with, at least."""


@dataclass(frozen=True)
class PlainStack:
    """The longest run of layers with one activation and neither norm nor skip.

    Args:
        weights: names, in order of running.
        behind: name of the weight that reads the last layer's units; empty for none.
        activation: what stands behind each.
        troubles: what makes it deep, each with its number; empty for a shallow stack.
        even: every width within it can be halved, and no convolution has groups.
        width: the smallest number of units (channels) of a layer.
    """

    weights: tuple[str, ...]
    behind: str
    activation: Activation
    troubles: tuple[str, ...]
    even: bool
    width: int

    @property
    def start(self) -> Start:
        """The weights that carry a signal through it, if any do."""
        return start_of(self.activation, len(self.weights), paired=self.even)

    @property
    def label(self) -> str:
        """``30 plain relu layers``."""
        return f"{len(self.weights)} plain {self.activation.name} layers"


def in_deep_stack(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """The decision for a weight of a deep plain stack; None where the usual rules serve."""
    stack = plain_stack(circumstances)
    if stack is None or not stack.troubles or subject.name not in stack.weights:
        return None
    start, first = stack.start, subject.name == stack.weights[0]
    evidence = (*stack.troubles, *_facts(stack, start), *subject.role.evidence)
    if isinstance(start, Isometry):
        scheme = _isometric(subject, start, first=first)
        kind = "mirrored orthogonal" if start.mirrored else "orthogonal"
        size = f", which brings data to second moment {start.first:.2g}"
        why = f"{stack.label}: {kind}{size if first and start.first < 1 else ''}"
        return Decision(scheme, why, evidence)
    if isinstance(start, StackPoint):
        # The first layer brings data of second moment 1 to the fixed point; the others stay there.
        scale = start.q if first else start.gain**2
        reason = f"{stack.label}: the gain of the stablest fixed point"
        return Decision(VarianceScaling(scale=scale), reason, evidence)
    return None


def behind_deep_stack(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """The decision for the weight that reads a deep stack's units; None for any other.

    A head's logits are as large as ``stack_curvature`` says; any other weight's output is what the
    activation that comes next wants.
    """
    stack = plain_stack(circumstances)
    if stack is None or not stack.troubles or subject.name != stack.behind:
        return None
    start = stack.start
    if start is None:
        return None
    if subject.role.role is not Role.HEAD:
        std, what = math.sqrt(squared_gain(subject.role.activation)[0]), "unit size"
    else:
        std = HEAD_STD
        if isinstance(start, Isometry):
            std = logit_std(start, stack.width, _channels(subject)[0], HEAD_STD)
        what = f"logits of std {std:.2g}"
    if isinstance(start, Isometry) and start.mirrored and _paired(subject):
        gain = std / math.sqrt(start.passed) * _widening(*_channels(subject), halved=True)
        scheme: Scheme = Mirrored(gain=gain, mirror="inputs")
        passed, kind = start.passed, "mirrored, "
    else:
        fixed = isinstance(start, StackPoint)
        passed = start.q / start.gain**2 if isinstance(start, StackPoint) else start.features
        scheme, kind = VarianceScaling(scale=std**2 / passed), ""
        if fixed and math.isclose(passed, 1.0, rel_tol=0.05):
            return None  # as large as any features: the usual rule
    reason = f"behind {stack.label}: {kind}{what} from units of second moment {passed:.2g}"
    return Decision(scheme, reason, (*_facts(stack, start), *subject.role.evidence))


def _isometric(subject: Subject, start: Isometry, *, first: bool) -> Scheme:
    """(Mirrored) orthogonal weights; the first layer's bring data of second moment 1 to q0."""
    gain = math.sqrt(start.first) if first else start.gain
    axes = subject.axes
    outputs, inputs = _channels(subject)
    # One tap of few channels would give copies of one pixel; of a stride, skip those between.
    spread = bool(axes.receptive) and not axes.transposed and (first or _strides(subject))
    taps = math.prod(subject.shape[a] for a in axes.receptive)
    if start.mirrored:
        columns = inputs * (taps if spread else 1) / (1 if first else 2)
        gain *= _widening(outputs / 2, columns)
        # What comes in is data, not pairs: the first layer makes the pairs.
        return Mirrored(
            gain=gain, mirror="outputs" if first else "both", taps="all" if spread else "middle"
        )
    if axes.receptive and axes.groups == 1 and not spread and outputs >= inputs:
        return DeltaOrthogonal(gain=gain * _widening(outputs, inputs))
    return Orthogonal(gain=gain * _widening(outputs, inputs * taps / axes.groups))


def _facts(stack: PlainStack, start: Start) -> tuple[str, ...]:
    """The numbers behind a start."""
    name = stack.activation.name
    if isinstance(start, StackPoint):
        return (
            f"stablest fixed point: gain {start.gain:.4g}, q = {start.q:.3g}, "
            f"χ1 = {start.chi1:.4g}",
        )
    if start is None:
        return ()
    odd = f"{name}(x) − {name}(−x)" if start.mirrored else f"{name}(x)"
    if start.linear:
        return (f"{odd} = {1 / start.gain:g}·x: opposite units pass signals on unchanged",)
    return (
        f"{odd} is odd with its greatest slope, {1 / start.gain:.4g}, at 0",
        f"from q = {start.first:.3g} the stack keeps {start.last / start.first:.2f} of a signal",
    )


@once_per_model
def plain_stack(circumstances: Circumstances) -> PlainStack | None:
    """The longest plain stack of the model; None where the model is no chain of layers."""
    chain = chain_of(circumstances)
    runs: list[list[Subject]] = []
    for subject in chain:
        plain = subject.role.role is Role.WEIGHT and not subject.role.norm_after
        activation = subject.role.activation
        if not plain or activation is None or name_of(activation) in LINEAR:
            runs.append([])
        elif runs and runs[-1] and _continues(subject, runs[-1][-1], circumstances):
            runs[-1].append(subject)
        else:
            runs.append([subject])
    run = max(runs, key=len, default=[])
    if not run:
        return None
    activation = run[0].role.activation
    assert activation is not None
    inner = [_channels(s)[0] for s in run] + [_channels(s)[1] for s in run[1:]]
    even = all(n % 2 == 0 for n in inner) and all(s.axes.groups == 1 for s in run)
    after = [s for s in chain if s.role.depth == run[-1].role.depth + 1]
    behind = after[0] if after and _passes(run[-1], after[0], circumstances) else None
    return PlainStack(
        tuple(s.name for s in run),
        "" if behind is None else behind.name,
        activation,
        troubles_of(run, activation),
        even,
        min(_channels(s)[0] for s in run),
    )


def _continues(subject: Subject, last: Subject, circumstances: Circumstances) -> bool:
    """The same activation, and a signal that comes from the last weight as that left it."""
    same = subject.role.activation == last.role.activation
    return same and _passes(last, subject, circumstances)


def _passes(last: Subject, subject: Subject, circumstances: Circumstances) -> bool:
    """The signal passes from weight to weight without a norm and without being joined."""
    path = path_from(last.name, subject.name, circumstances)
    return path is not None and not any("norm" in operation.name for operation in path)


def chain_of(circumstances: Circumstances) -> list[Subject]:
    """Weights in order of running; empty unless each depth has one, without residual branches."""
    weights = sorted(
        (s for s in circumstances if s.is_layer_weight or s.is_table), key=lambda s: s.role.depth
    )
    depths = [s.role.depth for s in weights]
    if circumstances.residual_branches or len(set(depths)) != len(depths):
        return []
    plain = {Role.WEIGHT, Role.HEAD}
    return weights if all(s.role.role in plain for s in weights) else []


def _channels(subject: Subject) -> tuple[int, int]:
    """Outputs and inputs, receptive field aside."""
    taps = math.prod(subject.shape[a] for a in subject.axes.receptive)
    outputs = math.prod(subject.shape[a] for a in subject.axes.outputs)
    return outputs, subject.count // max(outputs * taps, 1)


def _strides(subject: Subject) -> bool:
    return any(step > 1 for step in subject.axes.stride)


def _paired(subject: Subject) -> bool:
    """Whether opposite units can be told in what it reads: a dense layer's two halves."""
    axes = subject.axes
    return axes.groups == 1 and not axes.transposed and _channels(subject)[1] % 2 == 0


def _widening(rows: float, columns: float, *, halved: bool = False) -> float:
    """√(rows / columns) of Q where it widens: columns of unit length would dilute the signal."""
    return math.sqrt(max(rows / (columns / 2 if halved else columns), 1.0))
