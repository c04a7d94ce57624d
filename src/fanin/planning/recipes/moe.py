"""moe: small truncated starts for sparse transformers."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal, TruncatedNormal

SCALE = 0.1


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """√(0.1/n) cut at 2σ, with n the inputs of one expert."""
    role, evidence = subject.role, subject.role.evidence
    if subject.is_layer_weight or role.role is Role.TIED_HEAD:
        std = (SCALE / subject.block_fans[0].fan_in) ** 0.5
        experts = "".join(f", {subject.shape[a]} experts apart" for a in subject.axes.batch)
        reason = f"{role.role}: √(0.1/{subject.block_fans[0].fan_in:g}) cut at 2σ{experts}"
        return Decision(TruncatedNormal(std=std), reason, evidence)
    if subject.is_table:
        return Decision(Normal(std=1.0), f"{role.role}: N(0, 1)", evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="moe",
    summary="√(0.1/fan_in) cut at 2σ, per expert, router included.",
    paper="Fedus, Zoph & Shazeer, Switch Transformers, JMLR 2022 (section 2.4)",
    docs="""\
A tenth of the usual scale made sparse training stable. The fan is that of one expert: the expert
axis counts as a batch of matrices. std is that before the cut, as the paper states it.""",
    decide=decide,
)
