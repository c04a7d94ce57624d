"""convnext: std 0.02, LayerScale 1e-6."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, GraphUse, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Constant, TruncatedNormal

LAYER_SCALE = 1e-6


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """0.02 on convolutions and linear layers, LayerScale 1e-6."""
    if subject.is_layer_weight:
        # The reference's bounds are absolute: ±2 is 100σ and never cuts.
        scheme = TruncatedNormal(std=0.02, bounds_absolute=(-2.0, 2.0))
        return Decision(scheme, "std 0.02", subject.role.evidence)
    if subject.role.role is Role.LAYER_SCALE:
        value = circumstances.number("layer_scale_init_value") or LAYER_SCALE
        return Decision(Constant(value), f"LayerScale: {value:g}", subject.role.evidence)
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="convnext",
    summary="Std 0.02 on convolutions and linear layers, LayerScale 1e-6, biases 0.",
    paper="Liu et al., A ConvNet for the 2020s, CVPR 2022 (facebookresearch/ConvNeXt)",
    docs="""\
Depthwise and pointwise layers alike std 0.02; the reference's cut at ±2 is absolute, 100σ, and
never happens. LayerScale 1e-6 (the model's layer_scale_init_value), norms 1, biases 0.""",
    decide=decide,
    graph=GraphUse.USED,
)
