"""The learning rate that the depth of a plain stack allows.

Gradient descent with momentum β is stable while rate · λ < 2(1 + β), λ the largest curvature of the
loss.  For cross-entropy over C classes λ is h times the trace of the tangent kernel, h about 1/C at
the start.  In a stack that starts as an isometry every layer's weights move the logits f as much as
every other's, which gives two bounds:

* once logits of size ‖f‖ have been learnt, L layers that each carry them have a trace of L‖f‖²,
  whatever the scale of the head.  With h‖f‖² ≈ 13 (logits of about 10) the rate is 3.8/(13 L), or
  0.3/L;
* at the start the trace is Σ_l (σ²/q_l)(n p_l + 1), σ the std of the logits, q_l the signal's
  second moment, p_l the units', n the width, 1 the bias.  Where the signal must be small (tanh:
  q = 1/2L), the bias has most of it and the bound falls as 1/L².  The curvature grows while the net
  learns; a third of the bound was stable.

Set on scikit-learn's digits, width 64: ReLU 30 layers trains at 1e-2 and not at 3e-2, GELU 100 at
3e-3 and not at 1e-2, tanh 1000 at 3e-5, partly at 1e-4 and not at 3e-4.
"""

import math

from fanin.planning.auto.plain_stack import PlainStack, plain_stack
from fanin.planning.auto.stack_depth import start_of
from fanin.planning.subject import Circumstances, once_per_model
from fanin.propagation.isometry import Isometry

MOMENTUM = 0.9
LEARNT = 13.0
"""h‖f‖² of a net that has learnt its classes."""
SHARE = 1 / 3
"""Of the bound at the start: what the growth of the curvature leaves."""
LOGIT_STD = 0.25
"""That auto gives a head."""


@once_per_model
def plain_rate(circumstances: Circumstances) -> float | None:
    """The largest learning rate for SGD with momentum 0.9; None without an isometric deep stack."""
    stack = plain_stack(circumstances)
    if stack is None or not stack.troubles or not isinstance(stack.start, Isometry):
        return None
    bound, depth = 2 * (1 + MOMENTUM), len(stack.weights)
    rate = bound / (LEARNT * depth)
    behind = circumstances.subjects.get(stack.behind)
    classes = behind.shape[behind.axes.outputs[0]] if behind is not None else 1
    if classes > 1:
        rate = min(rate, SHARE * bound * classes / _trace(stack, stack.start))
    return rate


def _trace(stack: PlainStack, start: Isometry) -> float:
    """Σ_l (σ²/q_l)(n p_l + 1); 1/q_l grows evenly from layer to layer."""
    inverse = (1 / start.first + 1 / start.last) / 2
    units = stack.width * start.features + 1
    return len(stack.weights) * LOGIT_STD**2 * inverse * units


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """What weights alone cannot do for the model's deepest plain stack."""
    stack = plain_stack(circumstances)
    if stack is None or not stack.troubles:
        return ()
    why, start = "; ".join(stack.troubles), stack.start
    rate = plain_rate(circumstances)
    if not isinstance(start, Isometry) or rate is None:
        if start_of(stack.activation, len(stack.weights)) != start:
            return (
                f"{stack.label}: even widths without groups would allow mirrored orthogonal "
                f"weights, which carry signals through any depth ({why}).",
            )
        if start is None:
            return (
                f"{stack.label} need a norm or a skip: no known weights carry a signal through "
                f"them ({why}).",
            )
        return (f"{stack.label}: the learning rate that trains falls with depth.",)
    depth = len(stack.weights)
    learnt = 2 * (1 + MOMENTUM) / (LEARNT * depth)
    limit = (
        f"0.3/L: all {depth} layers move the logits at once"
        if math.isclose(rate, learnt)
        else f"below 0.3/L = {learnt:.1g}: biases move signals of size "
        f"{math.sqrt(start.last):.1g} more than weights do"
    )
    return (
        f"{stack.label}: SGD with momentum 0.9 takes a learning rate of about {rate:.1g} at most "
        f"({limit}); three times as much diverges, and it falls with depth whatever the weights.",
    )
