"""The README's Python is run, and what it says is printed is what is printed."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_outputs_are_real():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.attempted >= 8
    assert result.failed == 0


def test_this_test_can_fail(tmp_path):
    page = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(page.replace("6 initialised", "7 initialised"))
    runner = doctest.testfile(str(tmp_path / "README.md"), module_relative=False, report=False)
    assert runner.failed > 0


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text())
    for link in links:
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 150
