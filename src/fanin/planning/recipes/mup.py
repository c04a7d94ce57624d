"""mup: starts whose best learning rate does not move with the width."""

from fanin.graph.role import Role
from fanin.planning.families import width
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import LeCun, Normal, VarianceScaling

BASE_WIDTH = 256
"""The width at which the readout is a plain LeCun layer: change it with ``mup(base_width=...)``."""


def mup(base_width: int = BASE_WIDTH) -> Recipe:
    """The recipe for a base model of another width."""

    def decide(subject: Subject, circumstances: Circumstances) -> Decision:
        role, evidence = subject.role, subject.role.evidence
        if role.role is Role.HEAD:
            fan_in = subject.fans.fan_in
            scale = base_width / fan_in
            reason = f"readout: √{base_width}/n, ÷ √(n/{base_width}) of a LeCun layer"
            return Decision(VarianceScaling(scale=scale), reason, evidence)
        if subject.is_table or role.role is Role.TIED_HEAD:
            return Decision(Normal(std=1.0), f"{role.role}: N(0, 1), whatever the width", evidence)
        if subject.is_layer_weight:
            return Decision(LeCun(), f"{role.role}: fan_in^(−½)", evidence)
        return small_parameter(subject, circumstances)

    def advise(circumstances: Circumstances) -> tuple[str, ...]:
        wide = width(circumstances)
        lines = [
            f"μP: give hidden matrices and the readout Adam's learning rate × {base_width}/{wide}, "
            "tables and vectors the base one; scale attention by 1/d instead of 1/√d"
        ]
        if any(s.role.role is Role.TIED_HEAD for s in circumstances):
            lines.append(f"μP: multiply the logits of the tied head by {base_width}/{wide}")
        return tuple(lines)

    return Recipe(
        name="mup",
        summary="Hidden fan_in^(−½), readout ∝ 1/n, tables 1: learning rates transfer over widths.",
        paper="Yang et al., Tensor Programs V, 2022 (table 3)",
        docs="""\
Hidden matrices N(0, 1/fan_in); the readout's variance base/n², which equals LeCun's at the base
width (256) and falls faster beyond; tables N(0, 1). The other half of μP is the optimiser's:
the plan's advice says the learning rates. Another base: fanin.planning.recipes.mup.mup(128).""",
        decide=decide,
        advise=advise,
    )


RECIPE = mup()
