"""What a caller of ``compare`` may write for seeds, counts and rates, and how it is shown."""

from collections.abc import Iterable
from typing import Any

from fanin.comparing.course import DEFAULT_RATES
from fanin.comparing.preflight import check_rates
from fanin.errors import DataError


def read_seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """So many seeds from 0, or those given.

    Raises:
        DataError: none, one twice, a negative one, or no whole numbers.
    """
    if isinstance(seeds, bool):
        raise DataError(f"seeds: {seeds} is no number of seeds. Give 5, or [0, 1, 2].")
    if isinstance(seeds, int):
        return tuple(range(read_count("seeds", seeds)))
    try:
        chosen = tuple(int(seed) for seed in seeds)
    except (TypeError, ValueError) as error:
        raise DataError(f"seeds: {seeds!r} is no number of seeds. Give 5, or [0, 1, 2].") from error
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise DataError(f"seeds: {list(chosen)}: give at least one, each once, from 0 up.")
    return chosen


def read_count(name: str, value: Any) -> int:
    """A whole number above 0.

    Raises:
        DataError: it is none; the message starts with ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DataError(f"{name}: {value!r} is not a whole number above 0.")
    return value


def read_rates(rates: float | Iterable[float] | None, optimizer: str) -> tuple[float, ...]:
    """The learning rates given, or those of an optimizer.

    Raises:
        DataError: they are no positive numbers, each once.
    """
    if rates is None:
        return DEFAULT_RATES.get(optimizer, DEFAULT_RATES["adam"])
    try:
        chosen = tuple(float(r) for r in ([rates] if isinstance(rates, int | float) else rates))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"learning_rates: {rates!r} are no numbers. Give one, or several as in [0.003, 0.03]."
        ) from error
    check_rates(chosen)
    return chosen


def command_of(build: Any, data: Any, recipes: Any) -> str:
    """The call as a person would write it, for the report."""
    if build is None and data is None and recipes is None:
        return "fanin compare"
    return f"fanin.compare({', '.join(_shown(v) for v in (build, data, recipes))}, …)"


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | list | tuple | dict | type(None)) else ""
    if text and len(text) <= 80 and " at 0x" not in text and "tensor(" not in text:
        return text
    return str(getattr(value, "__qualname__", type(value).__name__))
