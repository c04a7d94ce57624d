"""vit: the JAX reference of the Vision Transformer."""

from fanin.graph.role import Role
from fanin.planning.families import in_mlp, last_writer
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import LeCun, Normal, Xavier, Zeros


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """Xavier dense layers, LeCun patches, positions 0.02, class token and head 0."""
    role, evidence = subject.role, subject.role.evidence
    if role.role is Role.HEAD:
        return Decision(Zeros(), "head: 0", evidence)
    if role.role is Role.TOKEN:
        return Decision(Zeros(), "learned token: 0", evidence)
    if role.role is Role.POSITION_TABLE or subject.is_table:
        return Decision(Normal(std=0.02), f"{role.role}: N(0, 0.02²)", evidence)
    if subject.is_layer_weight and "convolution" in role.kind:
        return Decision(LeCun("truncated"), "patches: LeCun, cut at 2σ", evidence)
    if subject.is_layer_weight and role.depth > last_writer(circumstances) > 0:
        return Decision(LeCun("truncated"), "behind the encoder: LeCun, cut at 2σ", evidence)
    if subject.is_layer_weight:
        return Decision(Xavier(distribution="uniform"), f"{role.role}: Xavier uniform", evidence)
    if role.role is Role.BIAS:
        weight = circumstances.of_module(subject.module).get("weight")
        if weight is not None and in_mlp(weight, circumstances):
            return Decision(Normal(std=1e-6), "bias of the MLP: N(0, 1e-6²)", evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="vit",
    summary="Xavier uniform dense layers, LeCun patches, positions 0.02, head 0.",
    paper="Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021 (google-research/"
    "vision_transformer)",
    docs="""\
Every dense layer of the encoder Xavier uniform, q, k and v each on their own; the patch convolution
and a layer between the encoder and the head LeCun normal cut at 2σ; positions N(0, 0.02²); class
token and head 0; biases of the MLP N(0, 1e-6²), others 0. transformers' port draws normals of std
0.02 instead.""",
    decide=decide,
)
