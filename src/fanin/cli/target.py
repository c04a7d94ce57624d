"""TARGET: ``path/to/file.py:name`` or ``package.module:name`` -> a Python object."""

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from fanin.errors import TargetError, nearest_names


def load_target(target: str) -> Any:
    """The object that TARGET names.

    Raises:
        TargetError: the file or module cannot be imported, or holds no such name.
    """
    place, separator, name = target.rpartition(":")
    if not separator or not place or not name:
        raise TargetError(
            f"target {target!r} is not of the form path/to/file.py:name or package.module:name. "
            f"Name the model in it, such as {target}:model."
        )
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            names = [n for n in vars(value) if not n.startswith("_")]
            nearest = ", ".join(nearest_names(part, names)) or "none"
            raise TargetError(f"target {target!r}: {place} has no {part!r}. Nearest: {nearest}.")
        value = getattr(value, part)
    return value


def load_model(target: str) -> tuple[torch.nn.Module, Any]:
    """The model that TARGET names, and its inputs where the target returns ``(model, inputs)``.

    A module instance is taken as it is; a class or function is called without arguments.
    """
    value = load_target(target)
    made = value if isinstance(value, torch.nn.Module) else call_target(target, value)
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, torch.nn.Module):
        raise TargetError(
            f"target {target!r} gave {type(made).__name__}, not a torch.nn.Module. "
            "Return a model, or (model, inputs)."
        )
    return model, inputs


def model_builder(target: str) -> Callable[[], torch.nn.Module]:
    """A function that builds the model afresh at each call, as a comparison needs."""
    value = load_target(target)
    if isinstance(value, torch.nn.Module):
        return lambda: copy.deepcopy(value)
    return lambda: load_model(target)[0]


def call_target(target: str, value: Any) -> Any:
    """Call the target without arguments; say which target failed and how."""
    if not callable(value):
        raise TargetError(
            f"target {target!r} is of type {type(value).__name__}. "
            "Name a model, a class, or a function without arguments."
        )
    required = [
        p.name
        for p in _parameters(value)
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if required:
        raise TargetError(
            f"target {target!r} needs arguments ({', '.join(required)}). "
            "Name a function without arguments that builds it."
        )
    try:
        return value()
    except Exception as error:
        raise TargetError(
            f"target {target!r} raised {type(error).__name__}: {error}. "
            "Mend it, or see its traceback with --debug."
        ) from error


def _parameters(value: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature: calling will tell
        return []


@cache
def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"target file {str(path)!r} does not exist. Check the path.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"target file {str(path)!r} is not a Python file that can be imported.")
    module = importlib.util.module_from_spec(spec)
    # Registered first, so that dataclasses and pickles in the file find their module; and its
    # folder on the path, so that it can import its neighbours as `python file.py` would.
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise TargetError(
            f"target file {str(path)!r} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, "")  # as `python -m` does
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise TargetError(
            f"target module {name!r} cannot be imported: {type(error).__name__}: {error}."
        ) from error
