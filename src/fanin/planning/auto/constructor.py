"""What the model's constructor could set, and a plan of random weights should not."""

from fanin.planning.auto.norm import closes
from fanin.planning.families import closing_norms
from fanin.planning.subject import Circumstances

MANY_BRANCHES = 16
"""Residual branches from which starting them closed is worth saying: ResNet-50's number."""


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """Branches that end in norms which the plan leaves open: gated ones, such as SE blocks."""
    subjects = circumstances.subjects
    closing = [
        name
        for name in sorted(closing_norms(circumstances))
        if subjects[name].constant == 1 and not closes(subjects[name], circumstances)
    ]
    branches = circumstances.residual_branches
    if branches < MANY_BRANCHES or not closing:
        return ()
    return (
        f"{branches} residual branches end in norms of scale 1 ({closing[0]}, …): with scale 0, a "
        "constructor's zero_init_residual=True, every block starts as the identity (Goyal et al. "
        "2017).",
    )
