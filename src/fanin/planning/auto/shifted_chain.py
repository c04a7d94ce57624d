"""Convolutions that read a shifted norm: their middle taps alone, where padding would show.

A norm of bias β (``norm_start``) sends a mean of about β on.  In the middle of a map the next batch
norm takes it off; at the border, where padding of zeros leaves taps without it, it does not.  The
difference is one pattern for all samples, and each layer adds to it: behind 20 layers of 3 × 3 on
maps of 7 × 7 from β = 1 it was 88 per cent of the signal.  With the middle tap alone every place
reads the same sum, and it was 19 per cent, all of it from the first layer.

Fashion-MNIST, 16 channels of 7 × 7, batch norm and ReLU, 200 steps of SGD, best of three rates,
three seeds: 50 layers reached 37 per cent from β = 1.15 with all taps, 52 with the middle tap; 20
layers 54 and 64 from β = 0.5.  A net of 13 layers with pools learned as much in each way.
"""

import math

from fanin.planning.auto.gain import squared_gain
from fanin.planning.auto.norm_start import reading_shifts
from fanin.planning.auto.shared_places import taps_that_act
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import DeltaOrthogonal


def behind_shifted_norm(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """Orthogonal on the middle tap, as large as He; None for what reads no shift, or no padding."""
    if subject.name not in reading_shifts(circumstances):
        return None
    axes = subject.axes
    taps = math.prod(subject.shape[a] for a in axes.receptive)
    outputs = math.prod(subject.shape[a] for a in axes.outputs)
    inputs = subject.count // max(outputs * taps, 1)
    strided = any(step > 1 for step in axes.stride)
    if axes.groups > 1 or axes.transposed or strided or outputs < inputs:
        return None
    if math.isclose(taps_that_act(subject, circumstances), taps):
        return None
    squared, fact = squared_gain(subject.role.activation)
    reason = "reads a shifted norm: orthogonal on the middle tap, for padding would show the shift"
    scheme = DeltaOrthogonal(gain=math.sqrt(squared * outputs / inputs))
    return Decision(scheme, reason, (fact, *subject.role.evidence))
