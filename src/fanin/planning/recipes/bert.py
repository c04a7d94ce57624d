"""bert: a normal of std 0.02 cut at two sigmas."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, GraphUse, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import TruncatedNormal

STD = 0.02


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """The cut normal on every weight and table."""
    std = circumstances.number("initializer_range") or STD
    drawn = subject.is_layer_weight or subject.is_table
    if drawn or subject.role.role in {Role.TOKEN, Role.POSITION_TABLE}:
        reason = f"normal of std {std:g} cut at 2σ, which leaves 0.8796 of it"
        return Decision(TruncatedNormal(std=std), reason, subject.role.evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="bert",
    summary="A normal of std 0.02 cut at 2σ on every weight and table.",
    paper="Devlin et al., BERT, NAACL 2019 (google-research/bert: truncated_normal_initializer)",
    docs="""\
The reference draws a normal of std 0.02 (or the model's initializer_range) and cuts it at two
sigmas, so that the tensors have std 0.0176. transformers' port does not cut: "normal_0.02" is what
it draws. Biases 0, norms 1, padding rows 0.""",
    decide=decide,
    graph=GraphUse.USED,
)
