"""Convolutions, forward and transposed, grouped, strided, of any dimension."""

from fanin.graph.graph import Operation
from fanin.graph.reading import Reading
from fanin.graph.structure import argument, tensor_argument
from fanin.graph.use import Part
from fanin.graph.vocabulary import word

NAMES = frozenset(
    (
        "convolution",
        "_convolution",
        "convolution_overrideable",
        "mkldnn_convolution",
        "cudnn_convolution",
        "cudnn_convolution_transpose",
        "_conv_depthwise2d",
        "conv_depthwise3d",
        "_slow_conv2d_forward",
        "slow_conv3d_forward",
        "slow_conv_transpose2d",
    )
)


def read(operation: Operation, reading: Reading) -> bool:
    """The weight sums over input channels of its group and over its taps."""
    name = word(operation)
    data = tensor_argument(operation, 0, "input")
    weight = tensor_argument(operation, 1, "weight")
    bias = tensor_argument(operation, 2, "bias")
    if data is None or weight is None:
        return False
    stride, groups, transposed = _settings(operation, name, reading, data, weight)
    if not reading.is_weight(weight):
        reading.as_token(operation, data, "convolution")
        reading.make_signals(operation.outputs[:1])
        return True
    reading.as_token(operation, data, "convolution")
    rank = len(reading.shape(weight))
    roles = ("io" if transposed else "oi") + "r" * (rank - 2)
    reading.use_as_weight(
        operation,
        weight,
        "transposed convolution" if transposed else "convolution",
        roles,
        data,
        groups=groups,
        stride=stride,
        transposed=transposed,
    )
    reading.use_as_vector(operation, bias, "bias", Part.BIAS, operation.outputs[0])
    reading.make_signals(operation.outputs[:1])
    return True


def _settings(
    operation: Operation, name: str, reading: Reading, data: int, weight: int
) -> tuple[tuple[int, ...], int, bool]:
    taps = len(reading.shape(weight)) - 2
    if name in ("convolution", "_convolution", "convolution_overrideable"):
        stride = argument(operation, 3, "stride")
        transposed = bool(argument(operation, 6, "transposed"))
        groups = int(argument(operation, 8, "groups"))
    else:
        values = [v for v in operation.args[3:] if isinstance(v, tuple) and len(v) == taps]
        place = 1 if name == "mkldnn_convolution" else 0
        stride = values[place] if len(values) > place else ()
        transposed = "transpose" in name
        groups = reading.shape(data)[1] // max(reading.shape(weight)[1], 1)
        groups = 1 if transposed else max(groups, 1)
    stride = tuple(int(s) for s in stride)
    return (stride * taps if len(stride) == 1 else stride), groups, transposed
