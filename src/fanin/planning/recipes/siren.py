"""siren: sine networks."""

import math

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, Recipe
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import PyTorchDefault, Uniform

FREQUENCY = 30.0
_SETTINGS = ("omega_0", "omega_hidden", "omega", "w0", "hidden_omega_0")


def frequency(circumstances: Circumstances) -> float:
    """ω of the hidden layers, from the modules' settings; 30 where none says it."""
    if circumstances.graph is not None:
        for module in circumstances.graph.modules.values():
            for name in _SETTINGS:
                value = module.settings.get(name)
                if isinstance(value, int | float) and value > 0:
                    return float(value)
    return circumstances.number(*_SETTINGS) or FREQUENCY


def own_frequency(subject: Subject) -> float | None:
    """ω of the sine that reads this layer, off the recorded operations; None where none does."""
    activation = subject.role.activation
    if activation is None or activation.name != "sin":
        return None
    return abs(activation.input_scale) or None


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """First layer U(±1/n), others U(±√(6/n)/ω)."""
    evidence = subject.role.evidence
    if subject.is_layer_weight:
        fan_in = subject.fans.fan_in
        if subject.role.depth == 1:
            bound = 1 / fan_in
            return Decision(Uniform(-bound, bound), f"first layer: U(±1/{fan_in:g})", evidence)
        omega = own_frequency(subject) or frequency(circumstances)
        bound = math.sqrt(6 / fan_in) / omega
        reason = f"U(±√(6/{fan_in:g})/ω) with ω = {omega:g}"
        return Decision(Uniform(-bound, bound), reason, evidence)
    if subject.role.role is Role.BIAS:
        weight = circumstances.of_module(subject.module).get("weight")
        if weight is not None:
            scheme = PyTorchDefault(fan=weight.fans.fan_in)
            return Decision(
                scheme, "bias: U(±1/√n), PyTorch's, as the reference keeps it", evidence
            )
    return small_parameter(subject, circumstances)


RECIPE = Recipe(
    name="siren",
    summary="First layer U(±1/n), others U(±√(6/n)/ω).",
    paper="Sitzmann et al., Implicit Neural Representations with Periodic Activation Functions, "
    "NeurIPS 2020",
    docs="""\
For networks of sin(ω(Wx + b)). ω is read off the recorded operations; for a last layer without a
sine off the modules' settings (omega_0, w0, …), else 30.
Biases keep PyTorch's U(±1/√n), as in vsitzmann/siren.""",
    decide=decide,
)
