"""The settings of a study in words: what was compared, on what, and how to do it again."""

from collections.abc import Mapping, Sequence

from fanin.comparing.study import Study
from fanin.reporting.reading import models, recipes

SHOWN_ELSEWHERE = frozenset(
    {
        "command",
        "notes",
        *("models", "descriptions", "parameters", "classes", "target_loss", "target_losses"),
    }
)
"""Settings that the page shows beside each network."""


def subject(study: Study) -> str:
    """What was compared, in one sentence."""
    networks, compared = models(study), recipes(study)
    seeds = len({trial.seed for trial in study.trials})
    steps = study.settings.get("steps")
    parts = [
        f"{_many(len(compared), 'recipe')} for the initial weights, each from "
        f"{_many(seeds, 'seed')}, on {_many(len(networks), 'network')}"
    ]
    if networks:
        parts.append(f" ({', '.join(networks)})")
    if steps:
        parts.append(f", trained for {steps} steps")
    if study.settings.get("optimizer"):
        parts.append(f" with {plain(study.settings['optimizer'])}")
    if study.settings.get("data"):
        parts.append(f" on {plain(study.settings['data'])}")
    return "".join(parts) + ". Every run saw the same batches in the same order."


def described(study: Study, model: str) -> str:
    """Class, size and way of training of one network; empty where the settings do not say."""
    about = study.settings.get("descriptions")
    return str(about.get(model, "")) if isinstance(about, Mapping) else ""


def setting_rows(study: Study) -> list[tuple[str, str]]:
    """Every setting as (name, value) in words, less what the page shows elsewhere."""
    settings = dict(study.settings)
    values = settings.get("recipe_values")
    if isinstance(values, Mapping):
        settings["recipe_values"] = {k: v for k, v in values.items() if k != v}
    return [
        (str(key).replace("_", " "), plain(value))
        for key, value in settings.items()
        if key not in SHOWN_ELSEWHERE and value not in (None, "", (), [], {})
    ]


def plain(value: object) -> str:
    """A setting's value as a person writes it.

    Examples:
        >>> plain({"python": "3.11", "torch": "2.13"}), plain([0, 1, 2]), plain(True)
        ('python 3.11, torch 2.13', '0, 1, 2', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(item) for item in value)
    return str(value)


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
