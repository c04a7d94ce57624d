"""Recurrent layers that run as one operation."""

from fanin.graph.graph import Operation
from fanin.graph.reading import Reading
from fanin.graph.structure import argument, tensor_argument
from fanin.graph.use import Part, axes_in_use
from fanin.graph.vocabulary import word

NAMES = frozenset(
    (
        "mkldnn_rnn_layer",
        "_cudnn_rnn",
        "miopen_rnn",
        "_thnn_fused_lstm_cell",
        "_thnn_fused_gru_cell",
    )
)


def read(operation: Operation, reading: Reading) -> bool:
    """Matrices sum over their second axis; vectors are biases."""
    name = word(operation)
    data = tensor_argument(operation, 0, "input")
    if data is None:
        return False
    if name.startswith("_thnn"):  # the products ran before; only biases are left
        for tensor in reading.weights_of(operation):
            reading.use_as_vector(operation, tensor, "bias", Part.BIAS, operation.outputs[0])
        reading.make_signals(operation.outputs)
        return True
    gates = {2: "lstm", 3: "gru"}.get(argument(operation, 9, "mode"), "rnn")
    for tensor in reading.weights_of(operation):
        if tensor == data:
            reading.as_token(operation, tensor, "recurrent")
            continue
        family = gates if name == "mkldnn_rnn_layer" else "recurrent"
        if len(reading.shape(tensor)) == 1:
            reading.use_as_vector(operation, tensor, family, Part.BIAS, data)
            continue
        for parameter, labels in reading.weights[tensor].labels.items():
            axes = axes_in_use(labels, reading.graph.parameters[parameter].shape, "oi")
            reading.use(
                operation, tensor, family, Part.WEIGHT, source=data, axes=axes, parameter=parameter
            )
    reading.make_signals(operation.outputs[:3])
    return True
