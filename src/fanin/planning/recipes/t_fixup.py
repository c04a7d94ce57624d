"""t_fixup: transformers without LayerNorm and warm-up."""

from fanin.graph.role import Role
from fanin.planning.families import in_mlp, layers, width
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, Normal, Xavier
from fanin.schemes.scheme import Scheme

_SCALED = {Role.VALUE, Role.ATTENTION_OUT}


def scale(subject: Subject, circumstances: Circumstances) -> tuple[float, str]:
    """0.67 N^(−¼) in an encoder of N layers, (9N)^(−¼) in a decoder."""
    encoder = "encoder" in subject.name and "decoder" not in subject.name
    if encoder:
        count = layers(circumstances, "encoder")
        return 0.67 * count**-0.25, f"0.67·{count:g}^(−¼)"
    decoders = any("decoder" in s.name for s in circumstances)
    count = layers(circumstances, "decoder" if decoders else "")
    return (9 * count) ** -0.25, f"(9·{count:g})^(−¼)"


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """Xavier; v, o and the MLP scaled; embeddings d^(−½), scaled."""
    role, evidence = subject.role, subject.role.evidence
    if subject.is_table:
        count = layers(circumstances, "decoder" if _has_decoder(circumstances) else "")
        std = width(circumstances) ** -0.5 * (9 * count) ** -0.25
        return Decision(Normal(std=std), f"{role.role}: d^(−½)·(9·{count:g})^(−¼)", evidence)
    if not subject.is_layer_weight:
        return small_parameter(subject, circumstances)
    factor, text = scale(subject, circumstances)
    if role.role is Role.PACKED_QKV and role.block_names:
        parts: list[Scheme] = [
            Xavier(gain=factor) if name == "v" else Xavier() for name in role.block_names
        ]
        return Decision(Blockwise(tuple(parts)), f"packed: Xavier, v × {text}", evidence)
    if role.role in _SCALED or in_mlp(subject, circumstances):
        return Decision(Xavier(gain=factor), f"{role.role}: Xavier × {text}", evidence)
    return Decision(Xavier(), f"{role.role}: Xavier", evidence)


def _has_decoder(circumstances: Circumstances) -> bool:
    return any("decoder" in s.name for s in circumstances)


RECIPE = Recipe(
    name="t_fixup",
    summary="Xavier; v, o, fc1, fc2 × 0.67 N^(−¼) (encoder) or (9N)^(−¼) (decoder).",
    paper="Huang et al., Improving Transformer Optimization Through Better Initialization, "
    "ICML 2020",
    docs="""\
For transformers from which LayerNorm has been taken out, trained without warm-up. Embeddings
d^(−½)·(9N)^(−¼). Names decide what is encoder and what is decoder; a model that has neither counts
as a decoder.""",
    decide=decide,
)
