"""The pages of the documentation are what the code does."""

import doctest
from pathlib import Path

import pytest

from fanin.planning.recipe_page import recipes_markdown

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_recipes_is_what_the_recipes_say():
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert page == recipes_markdown(), (
        'write it anew: python -c "from fanin.planning.recipe_page import recipes_markdown; '
        "open('docs/recipes.md', 'w').write(recipes_markdown())\""
    )


@pytest.mark.parametrize("page", ["planning.md", "deep.md", "residual.md"])
def test_examples_print_what_they_show(page):
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testfile(
        str(DOCS / page), module_relative=False, optionflags=options, encoding="utf-8"
    )
    assert tried > 10
    assert failed == 0
