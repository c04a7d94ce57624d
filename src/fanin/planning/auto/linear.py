"""Linear layers of plain stacks, by the activation that reads them."""

from fanin.planning.auto.gain import LINEAR, RELU_LIKE, SATURATING, name_of, squared_gain
from fanin.planning.auto.intent import deliberate_zero
from fanin.planning.auto.norm_free import in_norm_free_branch
from fanin.planning.auto.plain_stack import behind_deep_stack, in_deep_stack
from fanin.planning.auto.residual import between_norms, inside_residual
from fanin.planning.auto.started_chain import in_started_chain
from fanin.planning.families import last_writer
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import SELU, Kaiming, LeCun, VarianceScaling, Xavier

_NO_PARAMETERS = {"relu", "leaky_relu"}


def linear(subject: Subject, circumstances: Circumstances) -> Decision:
    """He before ReLU-like activations, Xavier before tanh and sigmoid, LeCun before none."""
    kept = deliberate_zero(subject, circumstances)
    if kept is not None:
        return kept
    norm_free = in_norm_free_branch(subject, circumstances)
    if norm_free is not None:
        return norm_free
    inside = 0 < subject.role.depth <= last_writer(circumstances)
    if inside and not subject.role.norm_after:
        return inside_residual(subject, circumstances)
    hidden = between_norms(subject, circumstances)
    if hidden is not None:
        return hidden
    return (
        in_deep_stack(subject, circumstances)
        or behind_deep_stack(subject, circumstances)
        or in_started_chain(subject, circumstances)
        or by_activation(subject)
    )


def by_activation(subject: Subject) -> Decision:
    """The scheme that keeps the second moment through the activation that comes next."""
    activation, evidence = subject.role.activation, subject.role.evidence
    name = name_of(activation)
    if subject.role.norm_after:
        evidence = ("a norm reads its output, so that its scale does not show", *evidence)
    if activation is None:
        return Decision(LeCun(), "1/fan_in (LeCun): what reads its output is not known", evidence)
    if name in LINEAR:
        return Decision(LeCun(), "no activation follows: 1/fan_in (LeCun)", evidence)
    if name == "selu":
        return Decision(SELU(), "meets selu: 1/fan_in, self-normalising", evidence)
    if name in SATURATING:
        return Decision(Xavier(), f"meets {name}: Xavier", evidence)
    if name == "sin" and not subject.on_meta:
        why = "meets sin: its scale depends on the author's frequency, so the constructor's stays"
        return leave(why, *evidence)
    squared, fact = squared_gain(activation)
    evidence = (fact, *evidence)
    slope = activation.parameters.get("negative_slope")
    if name in _NO_PARAMETERS:
        scheme = Kaiming(nonlinearity=name, negative_slope=slope if name == "leaky_relu" else None)
        return Decision(scheme, f"meets {name}: He", evidence)
    family = "He, by quadrature" if name in RELU_LIKE else "variance kept by quadrature"
    if activation.parameters or name == "prelu":
        # Kaiming takes a name alone: an elu of another alpha has another gain.
        return Decision(VarianceScaling(scale=squared), f"meets {name}: {family}", evidence)
    if squared == 1.0:
        return Decision(LeCun(), f"meets {name}: 1/fan_in (LeCun)", evidence)
    return Decision(Kaiming(nonlinearity=name), f"meets {name}: {family}", evidence)
