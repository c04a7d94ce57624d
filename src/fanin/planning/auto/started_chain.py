"""Weights of chains whose norms start shifted or scaled: orthogonal, on the middle tap of a kernel.

Such norms (``norm_start``) make a layer nearly linear, and what is left for chance is the weights'.
Products of Gaussian matrices let samples fall into ever fewer directions, so that units differ in
the power by which a batch norm divides, and gradients grow by more than the formula says: over 50
layers of ReLU at width 64 by e^1.8 instead of e^1.1.  Orthogonal ones keep to it (Meterez et al.,
Towards Training Without Depth Limits: Batch Normalization Without Gradient Explosion, 2024).

A shifted norm sends a mean of about β on.  In the middle of a map the next batch norm takes it off;
at a border where padding of zeros leaves taps without it, it does not.  The difference is one
pattern for all samples, and each layer adds to it: behind 20 layers of 3 × 3 on maps of 8 × 8 from
β = 1.6 it was 93 per cent of the variance.  With the middle tap alone every place reads the same
sum, and there is no such pattern.

Fashion-MNIST, 16 channels of 7 × 7, batch norm and ReLU, 200 steps of SGD, best of three rates,
three seeds: 50 layers reached 37 per cent from β = 1.15 with all taps, 52 with the middle tap; 20
layers 54 and 64 from β = 0.5.  A net of 13 layers with pools learned as much in each way.
"""

import math

from fanin.planning.auto.gain import squared_gain
from fanin.planning.auto.norm_start import of_started_chains
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import DeltaOrthogonal, Orthogonal
from fanin.schemes.scheme import Scheme


def in_started_chain(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """Orthogonal weights as large as He's; None for what reads no norm that starts so.

    None too for convolutions whose middle taps would skip channels or places.
    """
    axes = subject.axes
    strided = any(step > 1 for step in axes.stride)
    if subject.name not in of_started_chains(circumstances):
        return None
    if axes.groups > 1 or axes.transposed or strided:
        return None
    taps = math.prod(subject.shape[a] for a in axes.receptive)
    outputs = math.prod(subject.shape[a] for a in axes.outputs)
    inputs = subject.count // max(outputs * taps, 1)
    squared, fact = squared_gain(subject.role.activation)
    gain = math.sqrt(squared * max(outputs / inputs, 1))
    scheme: Scheme = Orthogonal(gain=gain)
    reason = "in a chain whose norms start for its gradients: orthogonal"
    if taps > 1:
        if outputs < inputs:
            return None
        scheme = DeltaOrthogonal(gain=gain)
        reason += " on the middle tap"
    return Decision(scheme, reason, (fact, *subject.role.evidence))
