"""shipped: every tensor as its constructor left it."""

from fanin.planning.recipe import Decision, GraphUse, Recipe, leave
from fanin.planning.subject import Circumstances, Subject


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """Leave everything."""
    return leave("left as constructed")


RECIPE = Recipe(
    name="shipped",
    summary="Leaves every tensor as the model's constructor made it.",
    paper="",
    docs="The arm that a comparison measures against: what the model's author chose. Overrides "
    "still apply.",
    decide=decide,
    graph=GraphUse.IGNORED,
)
