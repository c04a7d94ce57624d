"""Low-rank adapters: down is random, up is zero, so that the model starts as it was."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import InverseSqrt, Zeros


def adapter(subject: Subject, circumstances: Circumstances) -> Decision:
    """LoRA (Hu et al. 2021): A from U(±1/√fan_in), B zero."""
    if subject.role.role is Role.ADAPTER_UP:
        reason = "adapter's up matrix: 0, so that the model starts as it was"
        return Decision(Zeros(), reason, subject.role.evidence)
    return Decision(InverseSqrt(), "adapter's down matrix: U(±1/√fan_in)", subject.role.evidence)
