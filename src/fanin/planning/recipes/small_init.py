"""small_init: small inner projections, and output projections that shrink with depth."""

from fanin.graph.role import Role
from fanin.planning.families import layers, width
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """√(2/(5d)) for inner projections and tables, 2/(L√d) for output projections."""
    evidence = subject.role.evidence
    wide = width(circumstances)
    if subject.is_layer_weight and subject.writes_residual:
        depth = layers(circumstances)
        std = 2 / (depth * wide**0.5)
        return Decision(Normal(std=std), f"output projection: 2/({depth:g}·√{wide})", evidence)
    if subject.is_layer_weight or subject.is_table or subject.role.role is Role.TIED_HEAD:
        std = (2 / (5 * wide)) ** 0.5
        return Decision(Normal(std=std), f"√(2/(5·{wide}))", evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="small_init",
    summary="√(2/(5d)) inside, 2/(L√d) for output projections.",
    paper="Nguyen & Salazar, Transformers without Tears, IWSLT 2019; Black et al., GPT-NeoX, 2022",
    docs="The pair of small_init and wang_init that GPT-NeoX was trained from. d is the width of "
    "the stream, L the number of layers.",
    decide=decide,
)
