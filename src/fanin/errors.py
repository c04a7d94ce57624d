"""Every error that fanin raises on purpose.

A message says where, what, and what to do next.  ``FaninError`` is caught once, at the
top of the command line, and becomes one line and exit status 2.
"""

import difflib
from collections.abc import Iterable


class FaninError(Exception):
    """Base of all errors that are the caller's to mend; the command line prints it as one line."""


class SchemeError(FaninError, ValueError):
    """A scheme was built with impossible values, or cannot draw a tensor of this shape or dtype."""


class UnknownNameError(FaninError, LookupError):
    """A scheme, recipe, rule, figure or pattern that does not exist."""


class RecordError(FaninError, RuntimeError):
    """The model could not be run once on the inputs given."""


class PlanError(FaninError, ValueError):
    """A plan cannot be made, read, or applied to this model."""


class CheckpointError(FaninError, ValueError):
    """A checkpoint is missing, broken, or of a kind that fanin does not read."""


class DataError(FaninError, ValueError):
    """Inputs, targets or a data set that cannot be used: wrong shape, empty, NaN, wrong dtype."""


class TargetError(FaninError, ValueError):
    """A ``path.py:name`` or ``package.module:name`` that cannot be imported or called."""


class OutputError(FaninError, OSError):
    """A report, plan or study that cannot be written where it was asked for."""


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The ``count`` known names closest to ``name``, closest first."""
    known = sorted(known)
    # cutoff=0 so that the user always sees the closest names, however far off the typing was.
    return difflib.get_close_matches(name, known, n=count, cutoff=0.0)


def unknown_name(kind: str, name: str, known: Iterable[str], listing: str) -> UnknownNameError:
    """The error for an unknown name: it lists the nearest three and says what lists them all.

    ``listing`` is the command or table that shows every name, such as ``fanin schemes``.
    """
    nearest = ", ".join(nearest_names(name, known)) or "none"
    return UnknownNameError(
        f"unknown {kind} {name!r}. Nearest: {nearest}. See all with `{listing}`."
    )
