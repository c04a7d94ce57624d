"""lstm: orthogonal recurrent matrices, forget bias 1."""

from fanin.graph.role import Role
from fanin.planning.auto.recurrent import recurrent_bias, recurrent_weight
from fanin.planning.recipe import Decision, GraphUse, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal, Xavier


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """Recurrent parameters as in the papers; everything else Xavier."""
    role = subject.role.role
    if role in {Role.RECURRENT, Role.RECURRENT_INPUT}:
        return recurrent_weight(subject, circumstances)
    if role is Role.RECURRENT_BIAS:
        return recurrent_bias(subject, circumstances)
    if subject.is_layer_weight:
        return Decision(Xavier(), f"{role}: Xavier", subject.role.evidence)
    if subject.is_table:
        return Decision(Normal(std=1.0), f"{role}: N(0, 1)", subject.role.evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="lstm",
    summary="Orthogonal recurrent matrices per gate, Xavier inputs, forget bias 1.",
    paper="Jozefowicz, Zaremba & Sutskever, ICML 2015 (forget bias); Saxe et al., 2013",
    docs="""\
W_hh orthogonal for each gate, W_ih Xavier for each gate, biases 0 but for the forget gate: 1 in
bias_ih only, since torch adds its two biases. GRU and plain RNN layers get the same matrices and
zero biases; other layers Xavier.""",
    decide=decide,
    graph=GraphUse.USED,
)
