"""The pages on schemes and fanin.init: what they show is what runs."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", ["schemes.md", "init.md"])
def test_examples_print_what_the_page_shows(page):
    failures, tried = doctest.testfile(str(DOCS / page), module_relative=False)
    assert tried > 2
    assert failures == 0


def test_every_scheme_is_in_the_catalogue():
    from fanin.schemes import SCHEMES

    page = (DOCS / "schemes.md").read_text()
    assert all(f"\n{name} " in page for name in SCHEMES)
