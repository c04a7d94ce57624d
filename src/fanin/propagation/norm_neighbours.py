"""Which product made what a norm normalises, and which norm reads what a product makes."""

from fanin.graph.graph import Graph, Operation, Ref
from fanin.propagation.call import Call
from fanin.propagation.norm_settings import takes_own_statistics

_PRODUCTS = ("convolution", "mm", "addmm")
VIEWS = {"view", "_unsafe_view", "reshape", "transpose", "permute", "clone", "_to_copy",
         "squeeze", "unsqueeze", "alias", "contiguous"}  # fmt: skip
"""Between a product and its norm."""
_FURTHEST = 12


def product_behind(call: Call, tensor: int) -> Call | None:
    """The convolution or matrix product that made a tensor, seen through views."""
    for _ in range(_FURTHEST):
        maker = call.graph.producer.get(tensor)
        if maker is None:
            return None
        if maker.name in _PRODUCTS:
            return Call(call.graph, maker, call.states, call.parts)
        first = maker.args[0] if maker.name in VIEWS else None
        if not isinstance(first, Ref):
            return None
        tensor = first.tensor
    return None


def norm_behind(call: Call) -> Operation | None:
    """The norm of single channels that alone reads this product, and takes their statistics.

    An instance norm is a batch norm of one sample whose channels are all channels of all samples.
    """
    if call.name == "convolution" and bool(call.raw(6)):
        return None
    tensor, channels = call.operation.outputs[0], call.shape()[1]
    for _ in range(_FURTHEST):
        reader = only_reader(call.graph, tensor)
        if reader is None:
            return None
        if "batch_norm" in reader.name:
            break
        if reader.name not in VIEWS:
            return None
        tensor = reader.outputs[0]
    else:
        return None
    if call.graph.tensors[tensor].shape[1] % channels:
        return None
    return reader if takes_own_statistics(reader) else None


def only_reader(graph: Graph, tensor: int) -> Operation | None:
    """The one operation that reads a tensor, copies aside of which nothing is made."""
    found = [r for r in graph.consumers.get(tensor, ())
             if not (r.name == "clone" and not graph.consumers.get(r.outputs[0]))]  # fmt: skip
    return found[0] if len(found) == 1 and found[0].outputs else None


def normalised_by_channel(call: Call) -> bool:
    """Whether the input is an elementwise function of what a batch norm made, padded or not."""
    tensor = call.tensor(0)
    for _ in range(6):
        maker = None if tensor is None else call.graph.producer.get(tensor)
        if maker is None or not maker.inputs:
            return False
        if "batch_norm" in maker.name:
            return True
        first = maker.inputs[0]
        padded = maker.name == "constant_pad_nd"
        if not padded and call.states[maker.outputs[0]].base.key != call.states[first].base.key:
            return False
        tensor = first
    return False
