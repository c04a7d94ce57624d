"""dcgan: convolutions N(0, 0.02²), batch norm scales N(1, 0.02²)."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, GraphUse, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """0.02 around 0 for weights, around 1 for norm scales."""
    if subject.is_layer_weight or subject.is_table:
        return Decision(Normal(std=0.02), "N(0, 0.02²)", subject.role.evidence)
    if subject.role.role is Role.NORM_SCALE:
        return Decision(
            Normal(mean=1.0, std=0.02), "norm scale: N(1, 0.02²)", subject.role.evidence
        )
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="dcgan",
    summary="Weights N(0, 0.02²), norm scales N(1, 0.02²), biases 0.",
    paper="Radford, Metz & Chintala, Unsupervised Representation Learning with DCGANs, ICLR 2016",
    docs="For generators and discriminators of strided convolutions with batch norm.",
    decide=decide,
    graph=GraphUse.USED,
)
