"""Weights that a signal passes again and again: recurrent layers and cells."""

from dataclasses import dataclass, field
from itertools import pairwise

from fanin.graph.flow import Flow, Step
from fanin.graph.graph import Operation
from fanin.graph.use import Part, Use

_TORCH_RECURRENT = "torch.nn.modules.rnn."
_LOOP = frozenset(
    (
        Step.MOVE,
        Step.SCALE,
        Step.BEND,
        Step.ADD,
        Step.MULTIPLY,
        Step.MERGE,
        Step.NORM,
        Step.SOFTMAX,
    )
)
GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n"), "rnn": ("h",)}


@dataclass
class Recurrence:
    """Recurrent parameters: name -> (kind, operation that shows it); and their input weights."""

    recurrent: dict[str, tuple[str, Operation | None]] = field(default_factory=dict)
    inputs: dict[str, tuple[str, Operation | None]] = field(default_factory=dict)
    biases: dict[str, str] = field(default_factory=dict)
    by_torch: set[str] = field(default_factory=set)
    """Parameters of torch's own recurrent modules, whose order of gates is documented."""


def find_recurrence(flow: Flow) -> Recurrence:
    """Torch's recurrent modules, and weights whose own result comes back to them."""
    found = Recurrence()
    _of_torch(flow, found)
    uses: dict[str, list[Use]] = {}
    for use in flow.reading.uses:
        if use.part is Part.WEIGHT and use.source is not None:
            uses.setdefault(use.parameter, []).append(use)
    for name, some in uses.items():
        if name in found.by_torch or len({u.operation.index for u in some}) < 2:
            continue
        if _comes_back(flow, some):
            found.recurrent[name] = (_kind(flow, some[-1]), some[-1].operation)
            _mark_inputs(flow, some[-1], found)
    for name in found.recurrent:
        found.inputs.pop(name, None)
    return found


def _of_torch(flow: Flow, found: Recurrence) -> None:
    for use in flow.reading.uses:
        owner, _, local = use.parameter.rpartition(".")
        module = flow.graph.modules.get(owner.split(".parametrizations")[0])
        if module is None:
            continue
        classes = (module.qualified_name, *module.base_names)
        own = [c for c in classes if c.startswith(_TORCH_RECURRENT)]
        if not own:
            continue
        class_name = own[0].rpartition(".")[2].removesuffix("Cell").lower()
        kind = class_name if class_name in GATES else "rnn"
        found.by_torch.add(use.parameter)
        if ".parametrizations." in use.parameter:
            local = use.parameter.split(".parametrizations.")[1]
        if "weight_hh" in local:
            found.recurrent[use.parameter] = (kind, use.operation)
        elif "weight_ih" in local:
            found.inputs[use.parameter] = (kind, use.operation)
        elif local.startswith("bias"):
            found.biases[use.parameter] = kind


def _comes_back(flow: Flow, uses: list[Use]) -> bool:
    """Whether the result of one use reaches the next through no other weight."""
    for earlier, later in pairwise(uses[:3]):
        if later.source is None or later.operation.index <= earlier.operation.index:
            continue
        if _turned(earlier, later):
            continue  # x Wᵀ, then y W: the encoder and the decoder of a tied autoencoder
        met = flow.back(later.source, lambda _, step: step in _LOOP, limit=400)
        if any(tensor == earlier.result for tensor, _ in met):
            return True
    return False


def _turned(earlier: Use, later: Use) -> bool:
    """Whether the second use sums over what the first one made: the transposed matrix."""
    if earlier.axes is None or later.axes is None or not earlier.axes.inputs:
        return False
    there, back = earlier.axes, later.axes
    return there.inputs == back.outputs and there.outputs == back.inputs


def _kind(flow: Flow, use: Use) -> str:
    """lstm, gru or rnn, by how many outputs there are to one input."""
    if use.axes is None or not use.axes.outputs or not use.axes.inputs:
        return "rnn"
    shape = flow.graph.parameters[use.parameter].shape
    outputs, inputs = shape[use.axes.outputs[0]], shape[use.axes.inputs[0]]
    return {4: "lstm", 3: "gru"}.get(outputs // inputs if outputs % inputs == 0 else 1, "rnn")


def _mark_inputs(flow: Flow, use: Use, found: Recurrence) -> None:
    """Weights whose results are added to the recurrent one's."""
    front, seen = [use.result], set[int]()
    while front:
        tensor = front.pop()
        for consumer in flow.graph.consumers.get(tensor, ()):
            if consumer.index in seen:
                continue
            seen.add(consumer.index)
            step = flow.step(consumer)
            if step in (Step.MOVE, Step.SCALE, Step.NORM):
                front.extend(consumer.outputs)
            elif step is Step.ADD:
                for other in flow.sources(consumer):
                    for partner in flow.weights_behind(other)[0]:
                        if partner.parameter not in found.recurrent and partner.source is not None:
                            kind = found.recurrent[use.parameter][0]
                            found.inputs.setdefault(partner.parameter, (kind, consumer))
