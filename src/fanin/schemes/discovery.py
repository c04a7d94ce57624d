"""Finds every scheme class in this package, so that none has to be listed by hand."""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from types import MappingProxyType

from fanin.schemes.scheme import Scheme


def _find() -> Mapping[str, type[Scheme]]:
    found: dict[str, type[Scheme]] = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        # The table is made of what is found here.
        if info.name in ("table", "discovery"):
            continue
        for name, value in vars(import_module(f"fanin.schemes.{info.name}")).items():
            if isinstance(value, type) and issubclass(value, Scheme) and not isabstract(value):
                found[name] = value
    return MappingProxyType(dict(sorted(found.items())))


SCHEME_CLASSES: Mapping[str, type[Scheme]] = _find()
"""Class name -> class, of every scheme."""
