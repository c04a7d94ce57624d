"""Which block of a recurrent weight is which gate."""

from fanin.graph.evidence import Facts
from fanin.graph.patterns.recurrence import GATES


def gate_names(facts: Facts, name: str, kind: str) -> tuple[str, ...]:
    """Names of the gates along a recurrent weight's outputs, in order; empty where unknown."""
    if name in facts.recurrence.by_torch:
        return GATES[kind]
    return ()
