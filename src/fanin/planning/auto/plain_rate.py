"""The learning rate that the depth of a plain stack allows, and what else it needs, as advice."""

import math

from fanin.planning.auto.plain_stack import HEAD_STD, plain_stack
from fanin.planning.auto.shared_places import taps_that_act
from fanin.planning.auto.stack_curvature import largest_rate, learnt_rate, logit_std
from fanin.planning.auto.stack_depth import start_of
from fanin.planning.subject import Circumstances, once_per_model
from fanin.propagation.isometry import Isometry


@once_per_model
def plain_rate(circumstances: Circumstances) -> float | None:
    """The largest learning rate for SGD with momentum 0.9; None without an isometric deep stack."""
    stack = plain_stack(circumstances)
    if stack is None or not stack.troubles or not isinstance(stack.start, Isometry):
        return None
    start, depth, taps = stack.start, len(stack.weights), _taps(circumstances)
    behind = circumstances.subjects.get(stack.behind)
    classes = behind.shape[behind.axes.outputs[0]] if behind is not None else 1
    if classes < 2:
        return learnt_rate(depth * taps)
    std = logit_std(start, stack.width, classes, HEAD_STD)
    return largest_rate(start, depth, stack.width, classes, std, taps)


def _taps(circumstances: Circumstances) -> float:
    """The mean T of the stack's layers: by how much more than a dense one each moves the signal."""
    stack = plain_stack(circumstances)
    if stack is None:
        return 1.0
    subjects = circumstances.subjects
    each = [taps_that_act(subjects[name], circumstances) for name in stack.weights]
    return sum(each) / len(each)


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
    depth, taps = len(stack.weights), _taps(circumstances)
    learnt, shared = learnt_rate(depth * taps), taps > 1
    bound = f"0.3/(L·T), T = {taps:.2g}" if shared else "0.3/L"
    each = ", each by the taps of all places" if shared else ""
    times = "L·T" if shared else "L"
    limit = (
        f"{bound}: all {depth} layers move the logits at once{each}, so that the loss is {times} "
        "times as curved"
        if math.isclose(rate, learnt)
        else f"below {bound.partition(',')[0]} = {learnt:.1g}: biases and means of units move "
        f"signals of size {math.sqrt(start.last):.1g} more than weights do"
    )
    return (
        f"{stack.label}: begin SGD with momentum 0.9 at a learning rate of about {rate:.1g} "
        f"({limit}); a few times as much may diverge, whatever the weights.",
    )
