"""What a parameter is for, read off the graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fanin.axes import Axes


class Role(StrEnum):
    """The roles that a parameter can have."""

    WEIGHT = "weight"
    RESIDUAL_WRITER = "residual writer"
    GATE_PROJECTION = "gate projection"
    UP_PROJECTION = "up projection"
    DOWN_PROJECTION = "down projection"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    PACKED_QKV = "packed q/k/v"
    ATTENTION_OUT = "attention out"
    HEAD = "head"
    EMBEDDING = "embedding"
    POSITION_TABLE = "position table"
    TIED_HEAD = "tied embedding and head"
    RECURRENT_INPUT = "recurrent input"
    RECURRENT = "recurrent"
    ROUTER = "router"
    MODULATION = "modulation"  # scales and shifts another stream: adaLN, FiLM
    ADAPTER_DOWN = "adapter down"
    ADAPTER_UP = "adapter up"
    BIAS = "bias"
    RECURRENT_BIAS = "recurrent bias"
    NORM_SCALE = "norm scale"
    NORM_BIAS = "norm bias"
    LAYER_SCALE = "layer scale"
    GATE = "gate"
    TOKEN = "learned token"
    UNUSED = "unused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Activation:
    """The nonlinearity that a weight's output meets first; ``linear`` for none.

    ``name`` is PyTorch's functional name: relu, leaky_relu, gelu, silu, tanh, sigmoid, selu, elu,
    softplus, softmax, …;  ``parameters`` are those that differ from call to call, such as
    ``{"negative_slope": 0.2}``.  ``input_scale`` is the factor on its input: 30 in ``sin(30 x)``.
    """

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    input_scale: float = 1.0


@dataclass(frozen=True)
class Branch:
    """Where a weight stands in its residual branch, and what closes that branch.

    Args:
        layers: weight layers one after another from the stream to the sum.
        place: which of them this weight is; 1 reads the stream.
        plain: nothing stands in the branches of its stream but layers, activations, sums and
            moves: no attention, no product of signals, no neighbours.
        attends: attention stands in the branches of its stream too, and nothing else.
        normed: a normalisation stands in one of its stream's branches or on the stream between
            two sums, or weights are divided by their own size.
        constant: product of the constants that multiply the last weight's result.
        factors: parameters and buffers that multiply it: LayerScale, SkipInit's α.
        gated: another signal multiplies it.
        bent: an activation stands between it and the sum.
        nested: the sum lies inside another residual branch.
        encloses: other residual sums lie inside this branch.
        ends: the sum is the model's output, or goes to it and to no other weight.
    """

    layers: int = 0
    place: int = 0
    plain: bool = False
    attends: bool = False
    normed: bool = False
    constant: float = 1.0
    factors: tuple[str, ...] = ()
    gated: bool = False
    bent: bool = False
    nested: bool = False
    encloses: bool = False
    ends: bool = False


@dataclass(frozen=True)
class Place:
    """Where in the recorded call a parameter was used, by numbers of operations.

    Args:
        used: the first operation that used it.
        added: the residual sum that adds its result to the stream; None where none does.
        shortcut: it projects the stream beside a residual branch.
    """

    used: int
    added: int | None = None
    shortcut: bool = False


@dataclass(frozen=True)
class Compared:
    """The towers of a model whose output is the cosines between their projections.

    Args:
        place: which of them a weight projects, from 0.
        towers: how many there are.
        product: number of the operation that multiplies two of them.
    """

    place: int
    towers: int
    product: int


@dataclass(frozen=True)
class ParameterRole:
    """What was read off the graph about one parameter.

    Args:
        parameter: its (first) name.
        role: what it is for.
        axes: which axis is what; None where the use does not say.
        activation: what its output meets first before the next weight; None for none or unknown.
        before: activation that its *input* has just been through (``linear`` for none).
        norm_before: a normalisation aside of the residual stream made what it reads; at most a
            modulation came in between.
        norm_after: a normalisation reads its output before the next weight or add does.
        norms_alone: norms over features are all that reads its output, behind its activation or at
            once, so that its scale shows little or not at all.
        depth: number of weight layers on the longest path from the inputs, this one included.
        residual_branches: number of residual adds along the model's main stream, when the
            parameter writes to that stream; 0 otherwise. It says that a weight is a residual
            writer whatever its role: an attention's output, a gated MLP's down projection.
        stream_branches: number of residual adds along the stream that its branch joins, for every
            weight of a branch, the writer included; 0 outside.
        post_norm: that stream is normalised behind each add (``LN(x + f(x))``).
        branch: of a weight inside a residual branch: where it stands there; None outside.
        neutral_at_zero: of a modulation: at zero every stream that it scales passes as it is, and
            every residual branch that it gates is closed.
        logit_std: of a query or key: std of the attention's logits where queries and keys have
            unit variance; 1 under a division by √d, √d without one. None where a constant that
            the graph does not show scales them, or a norm reads the projection first.
        compared: of the last weight of a tower whose cosines with another tower's are the model's
            output: which of the towers.
        kind: the operation that uses it: ``linear``, ``convolution``, ``transposed convolution``,
            ``embedding``, ``lstm``, ``gru``, ``rnn``, ``norm``, ``bias``, ``einsum``, …
        block_names: what the blocks of ``axes.block_sizes`` are: ("q", "k", "v") or
            ("i", "f", "g", "o").
        evidence: plain sentences, naming the operations that show it.
        place: where in the call it was used; None for a parameter that was not.
        from_name: the role rests on the parameter's name, not on its use alone.
        offset: constant added to the parameter before its use: 1.0 for a norm that multiplies by
            ``1 + weight``, as Gemma's does, whose neutral value is therefore 0.
    """

    parameter: str
    role: Role
    axes: Axes | None = None
    activation: Activation | None = None
    before: Activation | None = None
    norm_before: bool = False
    norm_after: bool = False
    norms_alone: bool = False
    depth: int = 0
    residual_branches: int = 0
    stream_branches: int = 0
    post_norm: bool = False
    branch: Branch | None = None
    neutral_at_zero: bool = False
    logit_std: float | None = None
    compared: Compared | None = None
    kind: str = ""
    block_names: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    place: Place | None = None
    from_name: bool = False
    offset: float = 0.0
