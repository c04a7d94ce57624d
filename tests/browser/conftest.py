"""Pages in a real browser; skipped where there is no Chromium."""

import sys
from pathlib import Path

import pytest

# The small values that every report test shows are built in one place.
sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))

from devtools import CHROMIUM, Page

from fanin.reporting import diagnosis_page, ledger_page, plan_page, study_page


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no chromium: apt install chromium"))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Page name -> file, of every kind of report, with hostile names among the harmless ones."""
    from report_samples import (
        HOSTILE,
        a_diagnosis,
        a_finding,
        a_ledger,
        a_resnet_plan,
        a_study,
        a_transformer_plan,
        a_trial,
    )

    from fanin.comparing.study import Study

    study = a_study(recipes=("zeros", "torch", "kaiming_normal"), seeds=3, steps=120)
    wild = tuple(a_trial("mlp", "wild", seed, 120, diverges_at=20 + seed) for seed in range(3))
    hostile = a_study(models=(HOSTILE, "b"), recipes=(HOSTILE, "torch"), seeds=2, steps=20)
    texts = {
        "study": study_page(Study(study.trials + wild, study.settings)),
        "hostile": study_page(hostile),
        "empty": study_page(Study(())),
        "diagnosis": diagnosis_page(a_diagnosis([a_finding(where=HOSTILE), a_finding()])),
        "plan": plan_page(a_transformer_plan()),
        "resnet": plan_page(a_resnet_plan()),
        "ledger": ledger_page(a_ledger()),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture(scope="session")
def browser():
    """One browser for all tests, without a network."""
    with Page() as page:
        yield page


@pytest.fixture
def page(browser):
    """The browser's page at desktop width, in light colours, with no messages yet."""
    browser.messages.clear()
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.emulate()
    return browser
