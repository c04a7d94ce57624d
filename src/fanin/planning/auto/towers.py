"""Projections of towers that are compared by their cosines: CLIP's image and text.

The loss is a cross-entropy over cosines times a temperature's inverse.  Independent random
projections onto d features have cosines of std 1/√d, which CLIP's 14.3 makes logits of std .6 at
d = 512 and 3.6 at d = 16: a loss above ln B that is noise, and that the towers are turned by first.
Where each tower writes features of its own and the others none, every cosine is exactly 0 whatever
the temperature, the loss is ln B, and each row still has a gradient of its own, which the other
tower's features give it: a head that starts at zero, though no row of a tower's own part does.
"""

from fanin.graph.stacking import replace_axes
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, LeCun, Zeros


def compared(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """1/fan_in in a tower's own share of the features, zeros in the others' shares."""
    towers = subject.role.compared
    if towers is None or subject.parametrised or deliberate_zero(subject, circumstances):
        return None
    outputs = subject.shape[subject.axes.outputs[0]]
    share = outputs // towers.towers
    sizes = (*(share,) * (towers.towers - 1), outputs - share * (towers.towers - 1))
    own = tuple(LeCun() if k == towers.place else Zeros() for k in range(towers.towers))
    first = share * towers.place
    reason = (
        f"1/fan_in in features {first} to {first + sizes[towers.place] - 1}, 0 in the others', so "
        "that cosines between the towers start at 0 and the loss at ln B"
    )
    evidence = (
        f"operation #{towers.product} multiplies it with another tower's, both divided by their "
        "norms, and nothing weighs the result",
        *subject.role.evidence,
    )
    return Decision(Blockwise(own), reason, evidence, axes=replace_axes(subject.axes, sizes))
