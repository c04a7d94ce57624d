"""Names for schemes: the table ``SCHEMES``, and what a user may write instead of a scheme."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from fanin.errors import SchemeError, unknown_name
from fanin.schemes.discovery import SCHEME_CLASSES
from fanin.schemes.scheme import Scheme


class SchemeTable(Mapping[str, Scheme]):
    """Name -> scheme.

    Iteration lists the names; lookup also understands a number at the end of some of them
    (``normal_0.01``, ``uniform_0.1``, ``constant_0.5``, ``orthogonal_1.414``).
    """

    def __init__(self) -> None:
        self._named: dict[str, Scheme] = {}
        self.numbered: dict[str, tuple[type[Scheme], Callable[[float], dict[str, Any]]]] = {}
        for cls in SCHEME_CLASSES.values():
            for name, values in cls.names.items():
                if name in self._named:
                    raise SchemeError(f"two schemes are called {name!r}: give one another name.")
                self._named[name] = cls(**values)
            for name, arguments in cls.numbered.items():
                self.numbered[name] = (cls, arguments)
        self._named = dict(sorted(self._named.items()))

    def __getitem__(self, name: str) -> Scheme:
        if name in self._named:
            return self._named[name]
        stem, _, digits = name.rpartition("_")
        if stem in self.numbered:
            try:
                number = float(digits)
            except ValueError:
                pass
            else:
                cls, arguments = self.numbered[stem]
                return cls(**arguments(number))
        listed = [*self._named, *(f"{stem}_<number>" for stem in self.numbered)]
        raise unknown_name("scheme", name, listed, "fanin schemes")

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self[name] is not None
        except LookupError:
            return False

    def get(self, name: str, default: Any = None) -> Any:
        """The scheme of this name, or ``default``."""
        # Mapping.get waits for a KeyError; an unknown scheme is an UnknownNameError.
        try:
            return self[name]
        except LookupError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def __repr__(self) -> str:
        return f"SCHEMES({', '.join(self._named)})"


SCHEMES: Mapping[str, Scheme] = SchemeTable()
"""Every named scheme; a name such as ``normal_0.01`` is understood too."""


def scheme(value: object) -> Scheme:
    """The scheme that a user means.

    Args:
        value: a scheme; a name of ``SCHEMES`` (``"he_normal"``, ``"normal_0.01"``); an expression
            (``"Normal(std=0.02)"``); a scheme class; a dict from ``to_json``; a number for a
            constant; or a function ``f(tensor)`` that fills in place.

    Raises:
        UnknownNameError: no scheme of that name.
        SchemeError: anything else that is no scheme.

    Examples:
        >>> scheme("he_normal") == scheme("kaiming_normal")
        True
        >>> scheme("normal_0.01"), scheme("Uniform(low=-1, high=1)"), scheme(0.5)
        (Normal(mean=0.0, std=0.01), Uniform(low=-1, high=1), Constant(value=0.5))
    """
    if isinstance(value, Scheme):
        return value
    if isinstance(value, str):
        return _from_expression(value) if "(" in value else SCHEMES[value.strip()]
    if isinstance(value, Mapping):
        return scheme_from_json(value)
    if isinstance(value, type) and issubclass(value, Scheme):
        return _construct(value.__name__, {})
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _construct("Constant", {"value": value})
    if callable(value):
        return _construct("Function", {"function": value})
    raise SchemeError(
        f"{value!r} is no scheme. Give a scheme such as Normal(std=0.02), a name such as "
        "'he_normal' (all with `fanin schemes`), or a function f(tensor)."
    )


def scheme_from_json(data: Mapping[str, Any]) -> Scheme:
    """Inverse of ``Scheme.to_json``.

    Raises:
        UnknownNameError: no scheme class of that name.
        SchemeError: no ``"scheme"`` key, or values that the scheme refuses.

    Examples:
        >>> scheme_from_json({"scheme": "Normal", "std": 0.02})
        Normal(mean=0.0, std=0.02)
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("scheme"), str):
        raise SchemeError(
            f"{data!r} is no scheme: give {{'scheme': class name, field: value, ...}}."
        )
    values = {str(key): value for key, value in data.items() if key != "scheme"}
    return _construct(data["scheme"], values)


def _construct(name: str, values: Mapping[str, Any]) -> Scheme:
    if name not in SCHEME_CLASSES:
        raise unknown_name("scheme class", name, SCHEME_CLASSES, "fanin schemes")
    return SCHEME_CLASSES[name].from_fields(values)


def _from_expression(text: str) -> Scheme:
    """``Normal(std=0.02)`` as text: calls of scheme classes with literals, and nothing else."""
    try:
        value = _evaluate(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        # A SchemeError is a ValueError that already says what is wrong.
        if isinstance(error, SchemeError):
            raise
        value = None
    if not isinstance(value, Scheme):
        raise SchemeError(
            f"scheme {text!r}: write it as Normal(std=0.02), with plain numbers and words."
        )
    return value


def _evaluate(node: ast.expr) -> Any:
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_evaluate(element) for element in node.elts)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return ast.literal_eval(node)
    name = node.func.id
    if name not in SCHEME_CLASSES:
        raise unknown_name("scheme class", name, SCHEME_CLASSES, "fanin schemes")
    named = [field.name for field in fields(SCHEME_CLASSES[name])]  # type: ignore[arg-type]
    if len(node.args) > len(named):
        raise SchemeError(f"{name} takes {len(named)} arguments: {', '.join(named) or 'none'}.")
    values = {field: _evaluate(argument) for field, argument in zip(named, node.args, strict=False)}
    values |= {str(keyword.arg): _evaluate(keyword.value) for keyword in node.keywords}
    return SCHEME_CLASSES[name].from_fields(values)
