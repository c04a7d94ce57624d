"""How much more a convolution's weights move the signal than a dense layer's, for all its places.

The gradient of one tap of a kernel is a sum over places.  Where what is behind the layer reads all
places alike (their mean, or independent weights for each), every tap that reads a valid place
receives what the centre does, and moving all of them moves the signal by as much again each.  The
layer's part in the loss's curvature is therefore that of a dense layer times

    T = Σ over taps of (the share of places at which the tap reads no padding)²,

between 1 and the number of taps: 4.5 for 3 × 3 on maps of 4 × 4 with padding 1.
"""

import math
from collections.abc import Mapping

from fanin.graph.graph import Operation
from fanin.planning.subject import Circumstances, Subject, once_per_model


def taps_that_act(subject: Subject, circumstances: Circumstances) -> float:
    """T of one weight; 1 for dense layers, the number of taps where maps are not known."""
    axes, graph = subject.axes, circumstances.graph
    taps = [subject.shape[a] for a in axes.receptive]
    operation = _convolutions(circumstances).get(subject.name)
    if graph is None or operation is None or axes.transposed:
        return float(math.prod(taps))
    space = len(taps)
    inputs = graph.tensors[operation.inputs[0]].shape[-space:]
    outputs = graph.tensors[operation.outputs[0]].shape[-space:]
    settings = [tuple(int(n) for n in operation.args[k]) for k in (3, 4, 5)]
    strides, paddings, dilations = (v * space if len(v) == 1 else v for v in settings)
    each = zip(inputs, outputs, taps, strides, paddings, dilations, strict=True)
    return math.prod(_along(*axis) for axis in each)


@once_per_model
def _convolutions(circumstances: Circumstances) -> Mapping[str, Operation]:
    """Weight -> the first convolution by it."""
    graph = circumstances.graph
    found: dict[str, Operation] = {}
    for operation in graph.operations if graph is not None else ():
        if graph is not None and operation.name == "convolution":
            weight = graph.tensors[operation.inputs[1]]
            for name in (weight.name, *weight.of_parameters):
                found.setdefault(name, operation)
    return found


def _along(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> float:
    """Σ over the taps of one axis of the squared share of places at which they read no padding."""
    total = 0.0
    for tap in range(taps):
        offset = tap * dilation - padding
        valid = sum(0 <= place * stride + offset < size for place in range(out))
        total += (valid / out) ** 2
    return total
