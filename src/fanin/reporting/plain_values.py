"""Frozen values as plain JSON, and back.

Numbers that are not finite, which JSON lacks, are written as the strings "nan", "inf", "-inf".
"""

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


def to_plain(value: Any) -> Any:
    """A dataclass, mapping, sequence or number as dicts, lists, strings and finite numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[_T], data: Any) -> _T:
    """Inverse of ``to_plain`` for a value whose type hints say what it holds.

    Raises:
        TypeError, ValueError, KeyError: the data is not of this type.
    """
    read: _T = _read(cls, data)
    return read


def _read(hint: Any, data: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if data is None:
            return None
        return _read(next(a for a in arguments if a is not type(None)), data)
    if origin is tuple:
        if not isinstance(data, list):
            raise TypeError(f"a list is expected, not {type(data).__name__}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_read(arguments[0], item) for item in data)
        return tuple(_read(a, item) for a, item in zip(arguments, data, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_read(arguments[0], key): _read(arguments[1], item) for key, item in data.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        unknown = set(data) - set(hints)
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r} of {hint.__name__}")
        return hint(**{name: _read(hints[name], item) for name, item in data.items()})
    if isinstance(hint, type) and issubclass(hint, Enum | float | int) and hint is not bool:
        return hint(data)  # float("nan") reads what to_plain wrote
    return data
