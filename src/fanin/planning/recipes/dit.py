"""dit: diffusion transformers with adaLN-Zero."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal, Xavier, Zeros

_MODULATION = ("adaln", "modulation", "norm1.linear", "norm_out.linear", "proj_out_1")
_FINAL = ("final_layer.linear", "proj_out_2", "final_layer.proj")
_CONDITION = ("t_embedder", "timestep_embedder", "time_embed")


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """Xavier; modulation and final layer 0; conditioning 0.02."""
    role, evidence = subject.role, subject.role.evidence
    path = subject.name.lower()
    by_name = ("told by its name", *evidence)
    if subject.is_layer_weight:
        if role.role is Role.MODULATION or any(word in path for word in _MODULATION):
            reason = "adaLN modulation: 0, so that every block starts as the identity"
            return Decision(Zeros(), reason, evidence if role.role is Role.MODULATION else by_name)
        if role.role is Role.HEAD or any(word in path for word in _FINAL):
            return Decision(Zeros(), "final layer: 0", evidence)
        if any(word in path for word in _CONDITION):
            return Decision(Normal(std=0.02), "timestep MLP: N(0, 0.02²)", by_name)
        return Decision(Xavier(distribution="uniform"), f"{role.role}: Xavier uniform", evidence)
    if role.role is Role.EMBEDDING:
        return Decision(Normal(std=0.02), "label table: N(0, 0.02²)", evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="dit",
    summary="Xavier uniform; adaLN modulation and final layer 0; conditioning 0.02.",
    paper="Peebles & Xie, Scalable Diffusion Models with Transformers, ICCV 2023",
    docs="""\
adaLN-Zero: the layers that compute shifts, scales and gates start at 0, and so does the last
projection, told by their use, else by their names (adaLN, modulation, norm1.linear, final_layer,
proj_out). The patch convolution counts as a linear layer. Biases 0; sine position tables stay.""",
    decide=decide,
)
