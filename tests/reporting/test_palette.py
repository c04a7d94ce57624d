"""Recipes can be told apart: by contrast with the page, by dash and by marker."""

import itertools

import pytest

from fanin.reporting.html.swatches import swatch
from fanin.reporting.palette import LOOKS, PAPER_DARK, PAPER_LIGHT, contrast, looks


def test_contrast_is_the_wcag_ratio():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("look", LOOKS)
def test_colours_stand_out_from_both_pages(look):
    assert contrast(look.light, PAPER_LIGHT) >= 3
    assert contrast(look.dark, PAPER_DARK) >= 3


def test_looks_differ_in_colour_dash_and_marker():
    for field in ("light", "dark", "dash", "marker"):
        assert len({getattr(look, field) for look in LOOKS}) == len(LOOKS)


def test_many_recipes_still_differ():
    found = looks([f"recipe {i}" for i in range(30)])
    assert len(set(found.values())) == 30
    for first, second in itertools.combinations(found.values(), 2):
        assert (first.light, first.dash) != (second.light, second.dash)


def test_a_look_depends_on_the_place_alone():
    assert looks(["a", "b"])["b"] == looks(["x", "y", "z"])["y"]


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_has_a_swatch(look):
    small = swatch(look)
    assert small.shape.startswith("M")
    assert "px" not in small.dashes
