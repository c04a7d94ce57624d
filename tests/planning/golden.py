"""What the golden tables share: how a plan is held against numbers written out by hand."""

from fnmatch import fnmatchcase

import pytest

from fanin.planning import Action

CUT = 0.87962566103423978
"""Std of a unit normal cut at ±2."""


def check_table(plan, table, left=()):
    """Every drawn parameter has the moments of the first pattern that it matches.

    A number is the std of a tensor around 0; a pair is its mean and its std.  Every pattern must
    be used, and no parameter may be left but those that match ``left``.
    """
    used = set()
    for name, assignment in plan.items():
        if assignment.action is Action.TIED:
            continue
        if any(fnmatchcase(name, pattern) for pattern in left):
            assert assignment.action in {Action.LEAVE, Action.KEEP}, name
            continue
        assert assignment.action is Action.INITIALISE, f"{name}: {assignment.reason}"
        pattern = next((p for p in table if fnmatchcase(name, p)), None)
        assert pattern is not None, f"{name} is in no line of the table"
        used.add(pattern)
        expected = table[pattern] if isinstance(table[pattern], tuple) else (0.0, table[pattern])
        moments = assignment.scheme.expected(assignment.shape, assignment.axes)
        assert assignment.std == pytest.approx(expected[1], rel=1e-4, abs=1e-12), name
        assert moments.mean == pytest.approx(expected[0], rel=1e-4, abs=1e-12), name
    assert used == set(table)
