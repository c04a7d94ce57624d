"""Layer, batch, group, instance and RMS norm as single operations."""

from fanin.graph.graph import Operation
from fanin.graph.reading import Reading
from fanin.graph.structure import tensor_argument
from fanin.graph.use import Part
from fanin.graph.vocabulary import NORMS as NAMES
from fanin.graph.vocabulary import word

__all__ = ["NAMES", "read"]


def read(operation: Operation, reading: Reading) -> bool:
    """Scale and shift come after the data; statistics of batch norm come later."""
    name = word(operation)
    place = 2 if "layer_norm" in name or "rms_norm" in name else 1
    data = tensor_argument(operation, 0, "input")
    scale = tensor_argument(operation, place, "weight")
    shift = None if "rms" in name else tensor_argument(operation, place + 1, "bias")
    if data is None:
        return False
    if reading.is_weight(data) and not reading.is_weight(scale):
        return False  # weights standardised by a norm's arithmetic: still weights
    reading.as_token(operation, data, "norm")
    reading.use_as_vector(operation, scale, "norm", Part.SCALE, data)
    reading.use_as_vector(operation, shift, "norm", Part.SHIFT, data)
    reading.make_signals(operation.outputs[:1])
    reading.normalised[operation.index] = data
    return True
