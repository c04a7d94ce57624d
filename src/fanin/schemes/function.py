"""A function of the user's as a scheme."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from fanin.axes import Axes
from fanin.errors import SchemeError
from fanin.randomness.address import Address, Region
from fanin.schemes.checks import check_target, require
from fanin.schemes.scheme import Moments, Scheme


@dataclass(frozen=True)
class Function(Scheme):
    """``function(tensor)`` fills a tensor in place, as the functions of ``torch.nn.init`` do.

    It is called under ``torch.no_grad()`` with torch's generator seeded from the address, so the
    result depends on seed and name alone; the generator is put back afterwards.  Its values
    cannot be drawn in parts, so a region costs the memory of the whole tensor.

    In JSON it is its import path; only a function that can be imported by it round-trips.  Reading
    such a plan imports the module that it names.

    Args:
        function: a callable that takes a tensor and fills it in place, or the path
            ``"module:name"`` of one.
        std: the std that the tensor is expected to have, where you know it.
        mean: its expected mean.
    """

    function: Callable[[torch.Tensor], object] | str
    std: float | None = None
    mean: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            object.__setattr__(self, "function", _import(self.function))
        require(callable(self.function), f"Function({self.function!r}): give a callable f(tensor).")

    def expected(self, shape: Sequence[int], axes: Axes) -> Moments:
        """The moments given on construction; NaN for a std that was not given."""
        axes.validate(shape)
        return Moments(self.mean, float("nan") if self.std is None else self.std)

    def fill(
        self, target: torch.Tensor, axes: Axes, address: Address, region: Region | None = None
    ) -> None:
        """Call the function on a whole new tensor and copy what was asked for."""
        region = check_target(self, target, axes, address, region)
        if region.count() == 0:
            return
        whole = torch.zeros(region.shape, dtype=target.dtype)
        # Drawn on the CPU whatever the device, so that the values do not depend on it.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(address.key() & (2**63 - 1))
            assert callable(self.function)  # __post_init__ imported it if it was a path
            self.function(whole)
            picks = tuple(
                slice(first, first + (size - 1) * step + 1, step)
                for first, size, step in zip(region.start, region.size, region.step, strict=True)
            )
            target.copy_(whole[picks])

    def import_path(self) -> str:
        """``module:name`` of the function.

        Raises:
            SchemeError: a lambda, a closure, a bound method: nothing that can be imported.
        """
        module = getattr(self.function, "__module__", None)
        name = getattr(self.function, "__qualname__", "")
        path = f"{module}:{name}"
        try:
            found = _import(path)
        except SchemeError:
            found = None
        require(
            found is self.function,
            f"{self.function!r} cannot be saved: it is not importable by name. Define it with "
            "def at the top level of a module.",
        )
        return path

    def to_json(self) -> dict[str, Any]:
        """``{"scheme": "Function", "function": "module:name", …}``."""
        return {
            "scheme": "Function",
            "function": self.import_path(),
            "std": self.std,
            "mean": self.mean,
        }

    def __repr__(self) -> str:
        try:
            shown = repr(self.import_path())
        except SchemeError:
            shown = getattr(self.function, "__qualname__", repr(self.function))
        known = "" if self.std is None else f", std={self.std!r}, mean={self.mean!r}"
        return f"Function({shown}{known})"


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SchemeError(f"function {path!r} cannot be imported: {error}.") from error
    return found
