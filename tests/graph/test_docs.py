"""The page on the graph says what the code does."""

import doctest
from pathlib import Path


def test_the_page_on_the_graph():
    page = Path(__file__).parents[2] / "docs" / "graph.md"
    failed, tried = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried > 5
    assert failed == 0
