"""t5: every matrix by its own fan, queries small enough to do without the 1/√d of attention."""

from fanin.graph.role import Role
from fanin.planning.families import width
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Normal


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """Q (d·d_kv)^(−½), the others fan_in^(−½), embedding 1, relative positions d^(−½)."""
    role, evidence = subject.role, subject.role.evidence
    factor = circumstances.number("initializer_factor") or 1.0
    model = circumstances.number("d_model") or width(circumstances)
    if role.role is Role.QUERY:
        heads = circumstances.number("num_heads")
        key = circumstances.number("d_kv") or subject.fans.fan_out / (heads or 1)
        std = factor * (subject.fans.fan_in * key) ** -0.5
        reason = f"query: (d·d_kv)^(−½) with d_kv = {key:g}, since T5 has no 1/√d_kv"
        return Decision(Normal(std=std), reason, evidence)
    if role.role is Role.POSITION_TABLE:
        return Decision(Normal(std=factor * model**-0.5), "relative positions: d^(−½)", evidence)
    if role.role in {Role.EMBEDDING, Role.TIED_HEAD}:
        return Decision(Normal(std=factor), "embedding: N(0, 1)", evidence)
    if role.role is Role.HEAD and subject.local_name == "weight" and "lm_head" in subject.module:
        return Decision(Normal(std=factor), "head: N(0, 1), as the embedding", evidence)
    if subject.is_layer_weight:
        std = factor * subject.fans.fan_in**-0.5
        return Decision(Normal(std=std), f"{role.role}: fan_in^(−½)", evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="t5",
    summary="q (d·d_kv)^(−½), other matrices fan_in^(−½), embedding 1.",
    paper="Raffel et al., T5, JMLR 2020; formulas of transformers' modeling_t5",
    docs="""\
q (d·d_kv)^(−½), k and v d^(−½), o (H·d_kv)^(−½), MLP in d^(−½) and out d_ff^(−½), relative position
bias d^(−½), shared embedding and an untied lm_head N(0, 1), norms 1; all times the model's
initializer_factor. An untied head of std 1 makes the loss start far above ln C: "head" is worth an
override.""",
    decide=decide,
)
