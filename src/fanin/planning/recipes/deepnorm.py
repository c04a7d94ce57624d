"""deepnorm: post-norm transformers of a thousand layers."""

from fanin.graph.role import Role
from fanin.planning.families import in_mlp, layers, width
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, Normal, Xavier
from fanin.schemes.scheme import Scheme


def beta(subject: Subject, circumstances: Circumstances) -> tuple[float, str]:
    """The gain of v, o, fc1 and fc2: by the part of the model that they stand in."""
    encoder, decoder = parts(circumstances)
    if encoder and decoder:
        n, m = layers(circumstances, "encoder"), layers(circumstances, "decoder")
        if "decoder" in subject.name:
            return (12 * m) ** -0.25, f"(12·{m:g})^(−¼)"
        return 0.87 * (n**4 * m) ** (-1 / 16), f"0.87·({n:g}⁴·{m:g})^(−1/16)"
    count = layers(circumstances)
    return (8 * count) ** -0.25, f"(8·{count:g})^(−¼)"


def parts(circumstances: Circumstances) -> tuple[bool, bool]:
    """Whether residual writers stand in something called encoder, and in a decoder."""
    names = [s.name for s in circumstances if s.writes_residual]
    decoder = any("decoder" in name for name in names)
    return any("encoder" in name and "decoder" not in name for name in names), decoder


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """Xavier with gain β for v, o, fc1, fc2 and gain 1 for q and k."""
    role, evidence = subject.role, subject.role.evidence
    if role.role is Role.TIED_HEAD or subject.is_table:
        std = width(circumstances) ** -0.5
        return Decision(Normal(std=std), f"{role.role}: d^(−½)", evidence)
    if not subject.is_layer_weight:
        return small_parameter(subject, circumstances)
    gain, text = beta(subject, circumstances)
    if role.role is Role.PACKED_QKV and role.block_names:
        pieces: list[Scheme] = [
            Xavier(gain=gain) if name == "v" else Xavier() for name in role.block_names
        ]
        return Decision(Blockwise(tuple(pieces)), f"packed: Xavier, v × {text}", evidence)
    if role.role in {Role.VALUE, Role.ATTENTION_OUT} or in_mlp(subject, circumstances):
        return Decision(Xavier(gain=gain), f"{role.role}: Xavier × {text}", evidence)
    return Decision(Xavier(), f"{role.role}: Xavier", evidence)


def advise(circumstances: Circumstances) -> tuple[str, ...]:
    """The multiplier on the stream that goes with these weights."""
    encoder, decoder = parts(circumstances)
    if encoder and decoder:
        n, m = layers(circumstances, "encoder"), layers(circumstances, "decoder")
        first, second = 0.81 * (n**4 * m) ** (1 / 16), (3 * m) ** 0.25
        alpha = f"α = {first:.4g} in the encoder and {second:.4g} in the decoder"
    else:
        alpha = f"α = {(2 * layers(circumstances)) ** 0.25:.4g}"
    return (f"DeepNorm needs LayerNorm(α·x + f(x)) with {alpha}; 'auto' does without it",)


RECIPE = Recipe(
    name="deepnorm",
    summary="Xavier; v, o, fc1, fc2 × (8M)^(−¼); goes with LN(αx + f).",
    paper="Wang et al., DeepNet: Scaling Transformers to 1,000 Layers, 2022",
    docs="""\
Encoder-only or decoder-only with M layers: gain (8M)^(−¼) and α = (2M)^¼. Encoder of N and decoder
of M layers: 0.87(N⁴M)^(−1/16) and 0.81(N⁴M)^(1/16) in the encoder, (12M)^(−¼) and (3M)^¼ in the
decoder. α belongs to the architecture, and the plan's advice says its value.""",
    decide=decide,
    advise=advise,
)
