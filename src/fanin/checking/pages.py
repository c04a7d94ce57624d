"""The page of all rules, from the rules' own docstrings.

``python -m fanin.checking.pages > docs/rules.md`` writes it; a test compares the two.
"""

from fanin.checking.findings import Severity
from fanin.checking.rule import Needs, Rule
from fanin.checking.selecting import RULES

FAMILIES = {
    "FAN1": "Signal: activations and gradients",
    "FAN2": "Symmetry: what is equal and stays equal",
    "FAN3": "Schemes: weights that do not suit the layer",
    "FAN4": "Loss and logits",
    "FAN5": "Plans: weights that are not what was planned",
}
"""Beginning of the code -> what the rules of that family look at."""

_NEEDS = {
    Needs.WEIGHTS: "the weights",
    Needs.BATCH: "a batch",
    Needs.LOSS: "a batch and a target",
    Needs.PLAN: "the weights and a plan",
}


def rules_page() -> str:
    """All rules as one Markdown page: a table, then each rule's page."""
    severities = ", ".join(f"`{s}`" for s in Severity)
    parts = [
        "# Rules",
        "What `fanin check` and `fanin.check` look for. Choose with `select=` and `ignore=` "
        "(`--select`, `--ignore`): a code, a name, or the beginning of codes such as `FAN1`. "
        f"Severities are {severities}; a start is ok when there is no error and no warning. "
        "`fanin rule CODE` prints one page.",
        _table(),
    ]
    for beginning, title in FAMILIES.items():
        parts.append(f"# {title}")
        parts += [
            rule.docs.markdown(rule.code, rule.name, level=2).strip()
            for rule in RULES.values()
            if rule.code.startswith(beginning)
        ]
    return "\n\n".join(parts) + "\n"


def _table() -> str:
    lines = ["| code | name | needs | finds |", "|---|---|---|---|"]
    lines += [_row(rule) for rule in RULES.values()]
    return "\n".join(lines)


def _row(rule: Rule) -> str:
    anchor = f"{rule.code} {rule.name}".lower().replace(" ", "-")
    return f"| [{rule.code}](#{anchor}) | {rule.name} | {_NEEDS[rule.needs]} | {rule.summary} |"


if __name__ == "__main__":
    print(rules_page(), end="")
