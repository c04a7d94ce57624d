"""llama: 0.02 inside, writers and up projections scaled by the layer's own depth."""

from fanin.graph.role import Role
from fanin.planning.families import block_number
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, Normal, TruncatedNormal
from fanin.schemes.scheme import Scheme

STD = 0.02
_BY_DEPTH = {Role.ATTENTION_OUT, Role.DOWN_PROJECTION, Role.UP_PROJECTION, Role.RESIDUAL_WRITER}


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """0.02, or 0.02/√(2(l+1)) for wo, w2 and w3 of layer l; embedding 1, head d^(−½)."""
    role, evidence = subject.role, subject.role.evidence
    if role.role in {Role.HEAD, Role.TIED_HEAD}:
        std = subject.fans.fan_in**-0.5
        text = f"{role.role}: d^(−½) = {std:.4g}, cut at 3σ"
        return Decision(TruncatedNormal(std=std, cutoff_sigmas=3.0), text, evidence)
    if subject.is_table:
        return Decision(Normal(std=1.0), "embedding: N(0, 1)", evidence)
    if not subject.is_layer_weight:
        return small_parameter(subject, circumstances)
    layer = block_number(subject.name)
    deep = STD if layer is None else STD / (2 * (layer + 1)) ** 0.5
    if layer is not None and role.role in _BY_DEPTH:
        reason = f"{role.role} of layer {layer}: 0.02/√{2 * (layer + 1)}"
        return Decision(Normal(std=deep), reason, evidence)
    if role.block_names == ("gate", "up"):
        parts: tuple[Scheme, ...] = (Normal(std=STD), Normal(std=deep))
        return Decision(Blockwise(parts), f"gate 0.02, up {deep:.4g}", evidence)
    return Decision(Normal(std=STD), f"{role.role}: N(0, 0.02²)", evidence)


RECIPE = Recipe(
    name="llama",
    summary="0.02; wo, w2, w3 of layer l 0.02/√(2(l+1)); embedding 1, head d^(−½).",
    paper="Touvron et al., LLaMA, 2023; formulas of pytorch/torchtitan",
    docs="""\
q, k, v and gate N(0, 0.02²). Attention output, down and up projections of layer l (from 0)
N(0, 0.02²/(2(l+1))). Embedding N(0, 1), head (or tied table) a normal of std d^(−½) cut at 3σ.
Norm scales 1. transformers' port draws N(0, 0.02²) everywhere instead: "normal_0.02".""",
    decide=decide,
)
