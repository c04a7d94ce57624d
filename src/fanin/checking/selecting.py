"""The table of rules, and the choice among them by code, name or prefix."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping, Sequence

from fanin.checking import rules
from fanin.checking.rule import Rule
from fanin.errors import unknown_name


def discover() -> dict[str, Rule]:
    """Every rule in ``checking/rules``, by code."""
    found: dict[str, Rule] = {}
    for info in pkgutil.iter_modules(rules.__path__):
        module = importlib.import_module(f"{rules.__name__}.{info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Rule) and member.__module__ == module.__name__:
                if member.code in found:
                    raise RuntimeError(f"two rules have the code {member.code}")
                found[member.code] = member()
    return dict(sorted(found.items()))


RULES: Mapping[str, Rule] = discover()
"""Code -> rule, in order of code."""


def find_rule(code_or_name: str) -> Rule:
    """The rule of this code or name, in any case.

    Raises:
        UnknownNameError: no such rule; the message lists the nearest.

    Examples:
        >>> find_rule("fan101").name, find_rule("vanishing-activations").code
        ('vanishing-activations', 'FAN101')
    """
    wanted = code_or_name.strip().lower().replace("_", "-")
    for rule in RULES.values():
        if wanted in (rule.code.lower(), rule.name):
            return rule
    raise unknown_name("rule", code_or_name, _all_names(), "fanin rules")


def selected(select: Sequence[str] | str | None, ignore: Sequence[str] | str | None) -> list[Rule]:
    """The rules to run: those selected (all by default) that are not ignored.

    Each entry is a code (``FAN101``), a name, or the beginning of codes (``FAN1``).

    Raises:
        UnknownNameError: an entry that matches no rule.
    """
    chosen = _matching(select) if select is not None else set(RULES)
    dropped = _matching(ignore) if ignore is not None else set()
    return [rule for code, rule in RULES.items() if code in chosen - dropped]


def _matching(entries: Sequence[str] | str) -> set[str]:
    found: set[str] = set()
    for entry in [entries] if isinstance(entries, str) else entries:
        wanted = entry.strip()
        codes = {code for code in RULES if wanted and code.startswith(wanted.upper())}
        found |= codes or {find_rule(entry).code}
    return found


def _all_names() -> Iterable[str]:
    return [*RULES, *(rule.name for rule in RULES.values())]
