"""resnet: He by fan_out, the last norm of every branch closed, head 0.01."""

from fanin.graph.role import Role
from fanin.planning.families import closing_norms, reference_axes
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Kaiming, Normal, Zeros


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """He fan_out convolutions; γ = 0 where a norm ends a residual branch."""
    role, evidence = subject.role, subject.role.evidence
    if role.role is Role.HEAD:
        return Decision(Normal(std=0.01), "head: N(0, 0.01²)", evidence)
    if subject.is_layer_weight:
        axes = reference_axes(subject)
        return Decision(Kaiming(mode="fan_out"), "He, fan_out = k²·C_out", evidence, axes=axes)
    if role.role is Role.NORM_SCALE and subject.name in closing_norms(circumstances):
        fact = ("it stands between a branch's last weight and the add", *evidence)
        return Decision(
            Zeros(), "last γ of a residual branch: 0, so that blocks start as identity", fact
        )
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="resnet",
    summary="He fan_out, last γ of every residual branch 0, head N(0, 0.01²).",
    paper="He et al., CVPR 2016 and ICCV 2015; Goyal et al., Accurate, Large Minibatch SGD, 2017",
    docs="""\
Convolutions N(0, 2/(k²·C_out)): the paper's count, which leaves the stride aside; of grouped ones
the outputs of one group count. The batch norm that ends a residual branch starts at γ = 0, those of
the shortcuts and all others at 1; the classifier N(0, 0.01²), biases 0.""",
    decide=decide,
)
