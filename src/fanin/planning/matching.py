"""Which parameters a pattern, a module path or a module type stands for."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from fanin.errors import UnknownNameError, nearest_names


class Names:
    """The names of a model that patterns are matched against.

    Args:
        parameters: every parameter name, tied ones included.
        others: further tensors that may be named: buffers.
        aliases: effective weight path -> the parameter that carries it: ``conv.weight`` for
            ``conv.parametrizations.weight.original1``.
        model: for module paths and types.
    """

    def __init__(
        self,
        parameters: Iterable[str],
        others: Iterable[str],
        aliases: Mapping[str, str],
        model: nn.Module,
    ) -> None:
        self.parameters = tuple(parameters)
        self.others = tuple(others)
        self.aliases = dict(aliases)
        self.modules = {
            path: module for path, module in model.named_modules(remove_duplicate=False) if path
        }
        self.types = {type(module) for module in model.modules()}

    def named(self, pattern: str) -> list[str]:
        """Tensors whose own name, or effective path, matches; exact names come before patterns."""
        known = dict.fromkeys((*self.parameters, *self.others))
        if pattern in known:
            return [pattern]
        if pattern in self.aliases:
            return [self.aliases[pattern]]
        found = [name for name in known if fnmatchcase(name, pattern)]
        found += [c for alias, c in self.aliases.items() if fnmatchcase(alias, pattern)]
        return list(dict.fromkeys(found))

    def under(self, pattern: str) -> list[str]:
        """Parameters under the modules whose path matches, exact paths before patterns."""
        paths = [pattern] if pattern in self.modules else []
        paths = paths or [path for path in self.modules if fnmatchcase(path, pattern)]
        return self._below(paths)

    def of_type(self, kind: type[nn.Module]) -> list[str]:
        """Parameters that modules of this type own or hold below them."""
        return self._below([p for p, module in self.modules.items() if isinstance(module, kind)])

    def _below(self, paths: Iterable[str]) -> list[str]:
        prefixes = tuple(f"{path}." for path in paths)
        return [name for name in self.parameters if name.startswith(prefixes)] if prefixes else []

    def unmatched(self, argument: str, key: object) -> UnknownNameError:
        """The error for a key that stands for nothing in this model."""
        if isinstance(key, type):
            kinds = {kind.__name__ for kind in self.types}
            nearest = ", ".join(nearest_names(key.__name__, kinds))
            return UnknownNameError(
                f"{argument}: the model has no {key.__name__} with parameters. "
                f"Nearest of its types: {nearest}."
            )
        known = (*self.parameters, *self.others, *self.modules)
        nearest = ", ".join(nearest_names(str(key), known)) or "none"
        return UnknownNameError(
            f"{argument}: {key!r} matches no parameter or module. Nearest: {nearest}."
        )
