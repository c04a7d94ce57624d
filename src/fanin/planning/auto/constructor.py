"""What the model's constructor could set, and a plan of random weights should not."""

from fanin.graph.role import Role
from fanin.planning.auto.denoiser import closed_in_denoiser
from fanin.planning.families import closing_norms
from fanin.planning.subject import Circumstances

MANY_BRANCHES = 16
"""Residual branches from which starting them closed is worth saying: ResNet-50's number."""


def advice(circumstances: Circumstances) -> tuple[str, ...]:
    """Branches that would start closed at the turn of a flag.

    Zeros are the author's call: they are right only where nothing else multiplies by them, and a
    plan that set them unasked would hide a layer that later turns out never to wake.
    """
    return (*_modulation(circumstances), *_closing_norms(circumstances))


def _modulation(circumstances: Circumstances) -> tuple[str, ...]:
    layers = [s for s in circumstances if s.role.role is Role.MODULATION]
    random = [
        s
        for s in layers
        if s.constant != 0 and s.role.neutral_at_zero and not s.on_meta and not s.frozen
    ]
    if not random or closed_in_denoiser(random[0], circumstances) is not None:
        return ()
    which = f"{random[0].name}, of {len(random)}," if len(random) > 1 else random[0].name
    return (
        f"{which} modulates at random from the start, though at 0 it would let every stream pass: "
        "let its constructor set it to 0 (adaLN-Zero, Peebles & Xie 2023), or use the recipe "
        "'dit'.",
    )


def _closing_norms(circumstances: Circumstances) -> tuple[str, ...]:
    names = sorted(closing_norms(circumstances))
    subjects = circumstances.subjects
    closing = [n for n in names if subjects[n].constant == 1]
    branches = circumstances.residual_branches
    if branches < MANY_BRANCHES or not closing:
        return ()
    return (
        f"{branches} residual branches end in norms of scale 1 ({closing[0]}, …): with scale 0, a "
        "constructor's zero_init_residual=True, every block starts as the identity (Goyal et al. "
        "2017).",
    )
