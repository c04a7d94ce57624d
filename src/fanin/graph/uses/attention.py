"""Scaled dot-product attention as one operation, in all its variants."""

from fanin.graph.graph import Operation
from fanin.graph.reading import AttentionCore, Reading
from fanin.graph.structure import tensor_argument
from fanin.graph.use import Part
from fanin.graph.vocabulary import word

_STEMS = (
    "scaled_dot_product",
    "flash_attention_forward",
    "efficient_attention_forward",
    "flex_attention",
    "cudnn_attention_forward",
)


def matches(name: str) -> bool:
    """Whether this is the name of an attention operation."""
    return any(stem in name for stem in _STEMS)


def read(operation: Operation, reading: Reading) -> bool:
    """q, k and v meet; a parameter among them is a learned token."""
    if not matches(word(operation)):
        return False
    query, key, value = (tensor_argument(operation, place) for place in range(3))
    if query is None or key is None or value is None:
        return False
    for tensor in (query, key, value):
        reading.as_token(operation, tensor, "attention")
    for tensor in reading.weights_of(operation):
        if tensor not in (query, key, value):
            reading.use_as_vector(
                operation, tensor, "attention bias", Part.TERM, operation.outputs[0]
            )
    reading.make_signals(operation.outputs[:1])
    core = AttentionCore(operation, query, key, value, operation.outputs[0])
    reading.attentions.append(core)
    return True
