"""lora: adapters that start as nothing; the model under them stays."""

from fanin.errors import PlanError
from fanin.graph.role import Role
from fanin.planning.auto.adapter import adapter
from fanin.planning.recipe import Decision, GraphUse, Recipe, leave
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import InverseSqrt, Zeros

_DOWN, _UP = ("lora_a", "lora_down"), ("lora_b", "lora_up")


def part(subject: Subject) -> str:
    """``down``, ``up`` or nothing: by use, else by the names that LoRA libraries give."""
    if subject.role.role in {Role.ADAPTER_DOWN, Role.ADAPTER_UP}:
        return "down" if subject.role.role is Role.ADAPTER_DOWN else "up"
    name = subject.name.lower()
    if any(word in name for word in _DOWN):
        return "down"
    return "up" if any(word in name for word in _UP) else ""


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """A from U(±1/√fan_in), B zero, everything else left."""
    if not any(part(s) for s in circumstances):
        raise PlanError(
            "recipe 'lora' initialises adapters, and none was found. Name them lora_A and lora_B, "
            "or pass inputs so that their use can be read."
        )
    which = part(subject)
    if not which:
        return leave("left: not part of an adapter")
    if subject.role.role in {Role.ADAPTER_DOWN, Role.ADAPTER_UP}:
        return adapter(subject, circumstances)
    evidence = ("told by its name", *subject.role.evidence)
    if which == "up":
        return Decision(Zeros(), "adapter's up matrix: 0", evidence)
    return Decision(InverseSqrt(), "adapter's down matrix: U(±1/√fan_in)", evidence)


RECIPE = Recipe(
    name="lora",
    summary="A U(±1/√fan_in), B 0; everything else stays.",
    paper="Hu et al., LoRA, ICLR 2022 (microsoft/LoRA)",
    docs="""\
The reference draws A with kaiming_uniform_(a=√5), which is U(±1/√fan_in), and sets B to 0, so that
the adapted model starts as the one under it. Every other parameter is left.""",
    decide=decide,
    graph=GraphUse.USED,
)
