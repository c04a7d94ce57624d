"""What a constructor set on purpose, and auto therefore keeps."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, leave
from fanin.planning.subject import Circumstances, Subject, once_per_model

_MAY_START_AT_ZERO = {
    Role.RESIDUAL_WRITER,
    Role.ATTENTION_OUT,
    Role.DOWN_PROJECTION,
    Role.HEAD,
    Role.ADAPTER_UP,
    Role.MODULATION,
}


@once_per_model
def shows_intent(circumstances: Circumstances) -> bool:
    """Whether constants in this model can be a choice.

    A model whose layer weights are all constant was blanked, not designed: keeping what one
    finds there would keep it dead.
    """
    return any(s.is_layer_weight and s.constant is None for s in circumstances)


def deliberate_zero(subject: Subject, circumstances: Circumstances) -> Decision | None:
    """Keep a weight that its constructor made zero, at the end of a branch or of the model."""
    if subject.constant != 0 or not shows_intent(circumstances):
        return None
    if not (subject.writes_residual or subject.role.role in _MAY_START_AT_ZERO):
        return None
    return leave(
        f"its constructor's zeros stay: {subject.role.role} that starts closed",
        *subject.role.evidence,
    )


def phase_of_sine(subject: Subject, circumstances: Circumstances) -> bool:
    """Whether a bias turns the phase of a sine whose weight is left to its author.

    sin(ω(Wx + b)) with b = 0 is odd in x, and so is any stack of such layers: it could tell x
    from −x by its sign alone.
    """
    if subject.on_meta or subject.constant == 0:
        return False
    weights = circumstances.of_module(subject.module).values()
    return any(
        w.is_layer_weight and w.role.activation is not None and w.role.activation.name == "sin"
        for w in weights
    )
