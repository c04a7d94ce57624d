"""gpt2: N(0, 0.02²), residual projections divided by the root of the number of branches."""

from fanin.graph.role import Role
from fanin.planning.families import branches_of
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal

STD = 0.02


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """0.02 everywhere, 0.02/√N for what writes to the stream of N residual adds."""
    std = circumstances.number("initializer_range") or STD
    evidence = subject.role.evidence
    if subject.is_layer_weight and subject.writes_residual:
        branches = branches_of(subject, circumstances)
        reason = f"residual projection: {std:g}/√{branches}, one of {branches} branches"
        return Decision(Normal(std=std / branches**0.5), reason, evidence)
    if subject.is_layer_weight or subject.is_table:
        return Decision(Normal(std=std), f"N(0, {std:g}²)", evidence)
    if subject.role.role in {Role.TOKEN, Role.POSITION_TABLE}:
        return Decision(Normal(std=std), f"{subject.role.role}: N(0, {std:g}²)", evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="gpt2",
    summary="N(0, 0.02²); residual projections 0.02/√(2L).",
    paper="Radford et al., Language Models are Unsupervised Multitask Learners, 2019",
    docs="""\
Every weight and table N(0, 0.02²) (the model's own initializer_range, where it has one), biases 0,
norms 1. The output projections of attention and MLP are divided by √N with N = 2L residual adds,
which keeps the stream from growing with depth. Position embeddings 0.02 as in transformers' port;
the first release drew them with 0.01.""",
    decide=decide,
)
