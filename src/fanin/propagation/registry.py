"""Which rule carries moments through which ATen operation; families enrol their own.

A family is one module in ``families``; it is found by discovery.  Rules are registered under the
operation's name without a trailing underscore: writing in place changes no moment.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from fanin.propagation.carrying import Carry
from fanin.propagation.nearness import Near
from fanin.propagation.profile import Profile
from fanin.propagation.quadrature import Array
from fanin.propagation.state import State

if TYPE_CHECKING:
    from fanin.propagation.call import Call

Outcome = State | Sequence[State | None]
Forward = Callable[["Call"], Outcome | None]
"""Moments of the outputs; None where this rule cannot say, so that the operation is sampled."""


@dataclass(frozen=True)
class Pass:
    """Gradient that an input receives from output number ``output``.

    Args:
        tensor: id of the input.
        move: pair moments of the output's gradient -> those of the input's.
        slope: factor that stays coherent: gradients that reach one tensor by several such ways
            from one source add up before they are squared. A number, or values on the nodes of
            the base that output and input share; None for a gradient that arrives with a sign of
            its own, as behind a random matrix.
        output: which output of the operation it comes from.
        profile: for an incoherent gradient whose size depends on the input's value: its root mean
            square on the nodes of the input's base, of mean square 1. The largest element of a
            pooling window, which receives all of its gradient, is rarely below 0.
        by_value: for an incoherent gradient: its root mean square on the nodes of the output's base
            (None where it does not depend on the output) -> ``profile``.
        piece: for a gradient that reaches one stretch of an axis: the power of that stretch of
            the matrix behind it, over the whole's.
        through_matrix: the gradient is multiplied by such a matrix: ``piece`` counts now.
        carry: profile of the output's gradient -> that of the input's, with the factor by which
            its power differs from what ``move`` says of an even gradient; None where axes of equal
            length keep their places.
        along_output: a factor that sums g·x over the features: ``radial`` says how far that is
            from a sum over strangers.
        move_along: instead of ``move``, for norms: takes the pair moments of g·z too, the gradient
            times the numbers that the norm made.
        move_radial: instead of ``move``, for norms written out by hand: takes E[(Σ g·y)²] of the
            output too, over what strangers would have.
        move_placed: instead of ``move`` and ``carry``: takes the profile of the output's gradient
            too, and says that of the input's. Edges of strong nodes count for more.
        mirrored: the gradient is multiplied by a mirrored matrix, whose units come in opposite
            pairs: the gradients of a pair are subtracted before they are mixed.
        move_near: instead of ``move``: takes which places of the output's gradient are alike, and
            says which of the input's are. Without it, axes of equal length keep theirs.
        carry_near: gives ``carry`` for the pair moments and the alike places of the output's
            gradient.
    """

    tensor: int
    move: Callable[[Array], Array]
    slope: float | Array | None = None
    output: int = 0
    profile: Array | None = None
    by_value: Callable[[Array | None], Array | None] | None = None
    piece: float = 1.0
    through_matrix: bool = False
    carry: Carry | None = None
    along_output: bool = False
    move_along: Callable[[Array, Array], Array] | None = None
    move_radial: Callable[[Array, float], Array] | None = None
    move_placed: Callable[[Array, Profile], tuple[Array, Profile]] | None = None
    mirrored: bool = False
    move_near: Callable[[Array, Near], tuple[Array, Near]] | None = None
    carry_near: Callable[[Array, Near], Carry] | None = None


def given(pairs: Array) -> Callable[[Array], Array]:
    """A move that ignores what comes and gives these pair moments: they were found already."""
    return lambda _: pairs


Backward = Callable[["Call"], Iterable[Pass] | None]
"""Ways back to the inputs; None where this rule cannot say, so that the operation is sampled."""

_FORWARD: dict[str, Forward] = {}
_BACKWARD: dict[str, Backward] = {}
_LEAVING: set[str] = set()


def forward(*names: str, leaves: bool = False) -> Callable[[Forward], Forward]:
    """Enrol a forward rule for these operations.

    Args:
        names: of the operations.
        leaves: the backward rule needs what this one leaves in ``CallParts``, so that it is run
            on constants too.
    """

    def enrol(rule: Forward) -> Forward:
        for name in names:
            if name in _FORWARD:
                raise ValueError(f"two forward rules for {name!r}")
            _FORWARD[name] = rule
        _LEAVING.update(names if leaves else ())
        return rule

    return enrol


def backward(*names: str) -> Callable[[Backward], Backward]:
    """Enrol a backward rule for these operations."""

    def enrol(rule: Backward) -> Backward:
        for name in names:
            if name in _BACKWARD:
                raise ValueError(f"two backward rules for {name!r}")
            _BACKWARD[name] = rule
        return rule

    return enrol


@lru_cache(maxsize=1)
def _discover() -> None:
    package = import_module("fanin.propagation.families")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


def forward_rule(name: str) -> Forward | None:
    """The forward rule of an operation (functional name), if there is one."""
    _discover()
    return _FORWARD.get(name)


def leaves_parts(name: str) -> bool:
    """Whether the backward rule of an operation needs what its forward rule leaves."""
    _discover()
    return name in _LEAVING


def backward_rule(name: str) -> Backward | None:
    """The backward rule of an operation, if there is one."""
    _discover()
    return _BACKWARD.get(name)
