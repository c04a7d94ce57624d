"""How curved the loss of a deep isometric stack is, and the logits and rate which that allows.

Gradient descent with momentum β is stable while rate · λ < 2(1 + β), λ the largest curvature of the
loss.  For cross-entropy over C classes λ is h times the trace of the tangent kernel, h about 1/C at
the start.  In a stack that starts as an isometry every layer's weights move the logits f as much as
every other's, which gives two bounds:

* once logits of size ‖f‖ have been learnt, L layers that each carry them have a trace of L‖f‖²,
  whatever the scale of the head.  With h‖f‖² ≈ 13 (logits of about 10) the rate is 3.8/(13 L), or
  0.3/L;
* at the start the trace is Σ_l (σ²/q_l)(n p_l + 1), σ the std of the logits, q_l the signal's
  second moment, p_l the units', n the width, 1 the bias.  The curvature grows while the net learns:
  a third of the bound was stable.

A convolution counts T times, its biases in the second bound aside: each of its taps moves the
signal as the centre does (``shared_places``).

The larger σ, the less the layers must change to fit, and the longer they stay an isometry; σ is
therefore as large as leaves the second bound no tighter than the first, between 0.25 and 0.7 (a
loss of σ²/2 = 0.25 above ln C).  Where the signal must be very small (tanh: q = 1/2L) biases move
it more than weights do, and the second bound, which then falls as 1/L², is the tighter one.

Set on scikit-learn's digits, width 64: ReLU 30 layers trains at 1e-2 and not at 3e-2, GELU 100 at
3e-3 and not at 1e-2, tanh 1000 at 3e-5, partly at 1e-4 and not at 3e-4; with σ = 0.7 ReLU and GELU
ended 1 to 3 points higher than with 0.25.  Convolutions of 3 × 3 on 4 × 4 maps (T = 4.5), width 8,
two seeds, rates in steps of 3 from a third of the bound to nine times: 0.3/(L T) was the best for
30 and 60 layers of ReLU before a mean over places, for 30 before a dense layer and for 30 of GELU;
tanh trained at it and did best at three times as much.  Nine times it (0.3/L is 4.5 times) was
worse for all of them by 9 to 51 points.
"""

import math

from fanin.propagation.isometry import Isometry

MOMENTUM = 0.9
LEARNT = 13.0
"""h‖f‖² of a net that has learnt its classes."""
SHARE = 1 / 3
"""Of the bound at the start: what the growth of the curvature leaves."""
MOST_LOGIT_STD = 0.7


def logit_std(start: Isometry, width: int, classes: int, least: float) -> float:
    """The std of the logits that a stack starts with.

    Args:
        start: of the stack.
        width: its number of units.
        classes: number of logits.
        least: what any head has.
    """
    allowed = math.sqrt(SHARE * LEARNT * classes / _per_layer(start, width))
    return min(max(allowed, least), max(MOST_LOGIT_STD, least))


def largest_rate(
    start: Isometry, depth: int, width: int, classes: int, std: float, taps: float = 1.0
) -> float:
    """The largest learning rate for SGD with momentum 0.9.

    Args:
        start: of the stack.
        depth: its number of layers.
        width: number of units, or channels, of a layer.
        classes: number of logits.
        std: of the logits at the start.
        taps: T of its layers (``shared_places``), 1 for dense ones.
    """
    at_start = depth * std**2 * _per_layer(start, width * taps)
    return min(learnt_rate(depth * taps), SHARE * 2 * (1 + MOMENTUM) * classes / at_start)


def learnt_rate(depth: float) -> float:
    """The bound of a net that has learnt its classes, 0.3/L.

    Args:
        depth: number of layers that move the logits as much as the logits are large.
    """
    return 2 * (1 + MOMENTUM) / (LEARNT * depth)


def _per_layer(start: Isometry, width: float) -> float:
    """(n p + 1)/q on average: 1/q grows evenly from layer to layer."""
    return (width * start.features + 1) * (1 / start.first + 1 / start.last) / 2
