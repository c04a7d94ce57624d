"""The report of a study: what it says, that it is safe, and that it stands alone."""

import json

import pytest
from page_reading import assert_sound, data_of, read
from report_samples import HOSTILE, MARKUP, a_finding, a_study, a_trial

from fanin.checking.findings import Severity
from fanin.comparing.study import Study
from fanin.errors import OutputError
from fanin.reporting import save_study, study_page
from fanin.reporting.html.page import plotly_script, script_json

RECIPES = ("zeros", "torch", "kaiming_normal")


@pytest.fixture(scope="module")
def study():
    return a_study(recipes=RECIPES, seeds=3, steps=120)


@pytest.fixture(scope="module")
def page(study):
    return study_page(study)


@pytest.fixture(scope="module")
def reader(page):
    # Reading 4.8 MB of plotly.js takes most of the time, and there is nothing in it to see.
    return assert_sound(page.replace(plotly_script(), ""))


def test_first_screen_says_what_was_compared_and_the_answer(study, reader):
    text = reader.text
    assert "3 recipes for the initial weights, each from 3 seeds, on 2 networks (mlp, cnn)" in text
    for model in study.summary().models:
        answer = model.sentence.removeprefix(f"{model.model}: ")
        assert answer in text
        assert text.index(answer) < text.index("How training went")


def test_table_holds_the_summary_best_first(study, reader):
    rows = [a["data-row"] for _, a in reader.elements if "data-row" in a][:3]
    means = {r.recipe: r.score.mean for r in study.summary()["mlp"].rows}
    assert rows == sorted(RECIPES, key=lambda recipe: -means[recipe])
    row = next(r for r in study.summary()["mlp"].rows if r.recipe == "torch")
    assert f"{row.final_loss.mean:.2f}" in reader.text
    assert f"{100 * row.held_out_accuracy.mean:.1f} %" in reader.text
    assert f"{row.steps_to_target.mean:.1f}" in reader.text
    assert "steps to loss 1.15" in reader.text


def test_every_figure_is_labelled_and_has_its_data(page, reader):
    figures = data_of(page)["figures"]
    shown = [a for _, a in reader.elements if "data-figure" in a]
    assert {a["data-figure"] for a in shown} == set(figures)
    for attributes in shown:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 20
    assert sum(key.startswith("m0-") for key in figures) == 7 + 3 * 3
    assert set(figures["m0-weight_histograms-1"]["variants"]) == {
        f"{2 * i}.weight" for i in range(6)
    }
    for figure in figures.values():
        for variant in figure["variants"].values():
            assert {t["meta"]["recipe"] for t in variant["data"]} <= set(RECIPES)


def test_one_legend_names_every_recipe_once(reader):
    buttons = [a for _, a in reader.elements if "data-recipe" in a]
    assert [a["data-recipe"] for a in buttons] == list(RECIPES)
    assert all(a["aria-pressed"] == "true" for a in buttons)


def test_findings_and_reproduction_are_there(reader):
    assert "vanishing-activations" in reader.text
    assert "Use fanin.initialize(model, x, 'kaiming_normal')." in reader.text
    assert "fanin compare --seeds 3" in reader.text
    assert "torch 2.13.0" in reader.text
    assert "seeds 0, 1, 2" in reader.text


def test_stands_alone_and_is_little_more_than_plotly(page):
    assert page.count("<script") == 3
    assert len(page) - len(plotly_script()) < 700_000
    assert "cdn" not in page.replace(plotly_script(), "").lower()


def test_a_deep_network_keeps_the_page_small():
    trials = [a_trial("deep", r, s, 60, depth=100) for r in RECIPES for s in range(2)]
    page = study_page(Study(tuple(trials)))
    variants = data_of(page)["figures"]["m0-weight_histograms-1"]["variants"]
    assert len(variants) == 24
    assert [next(iter(variants)), list(variants)[-1]] == ["0.weight", "198.weight"]
    assert "24 of 100 layers" in page
    assert len(page) - len(plotly_script()) < 1_500_000


def test_same_study_same_page(study, page):
    assert study_page(study) == page


@pytest.mark.parametrize(
    "name", [HOSTILE, MARKUP, "</script><b>", "{{ 1111*7 }}", "a & \"b' \u2028"]
)
def test_names_are_text_whatever_they_say(name):
    study = a_study(models=(name,), recipes=(name, "torch"), seeds=2, steps=12, command=name)
    trials = tuple(
        a_trial(name, name, seed, 12, depth=2, findings=(a_finding(where=name, message=name),))
        for seed in range(2)
    )
    page = study_page(Study(study.trials + trials, study.settings)).replace(plotly_script(), "")
    shown = " ".join(name.split())
    reader = assert_sound(page, [shown])
    assert len(reader.all("script")) == 3
    assert not reader.all("b")
    assert [a["data-recipe"] for _, a in reader.elements if "data-recipe" in a] == [name, "torch"]
    assert name in data_of(page)["looks"]
    assert "7777" not in reader.text


def test_one_model_has_no_tabs_and_one_seed_no_interval():
    reader = read(
        study_page(a_study(models=("mlp",), seeds=1, steps=12)).replace(plotly_script(), "")
    )
    assert not [a for _, a in reader.elements if a.get("role") == "tab"]
    assert "one seed cannot tell luck from merit" in reader.text
    assert "nan" not in reader.text.lower()


def test_diverged_runs_are_counted_and_leave_no_nan():
    trials = [a_trial(recipe=r, seed=s) for r in ("torch", "zeros") for s in range(2)]
    wild = [a_trial(recipe="auto", seed=s, diverges_at=9 + s) for s in range(2)]
    page = study_page(Study((*trials, *wild)))
    reader = read(page.replace(plotly_script(), ""))
    assert "2 of 2" in reader.text
    data_of(page)  # JSON has no NaN


def test_an_empty_study_says_so():
    page = study_page(Study((), {}, complete=False))
    reader = assert_sound(page)
    assert "No run has finished yet" in reader.text
    assert "Not finished" in reader.text
    assert len(page) < 50_000


def test_findings_are_folded_by_rule():
    found = tuple(a_finding(where=f"{i}.weight") for i in range(9))
    error = a_finding("FAN101", Severity.ERROR, name="equal-units")
    study = Study((a_trial(findings=(*found, error)), a_trial(seed=1)))
    reader = read(study_page(study).replace(plotly_script(), ""))
    assert "(9 places)" in reader.text
    assert "and 3 more" in reader.text
    assert reader.text.index("equal-units") < reader.text.index("vanishing-activations")
    assert "1 error" in reader.text


def test_saved_whole_as_html_or_json(study, page, tmp_path):
    study.save(tmp_path / "study.html")
    assert (tmp_path / "study.html").read_text(encoding="utf-8") == page
    save_study(study, tmp_path / "study.json")
    assert Study.load(tmp_path / "study.json") == Study.from_json(
        json.loads((tmp_path / "study.json").read_text())
    )
    with pytest.raises(OutputError, match="unknown extension"):
        save_study(study, tmp_path / "study.pdf")


def test_json_in_a_script_cannot_close_it():
    text = script_json({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028&"}
    with pytest.raises(ValueError, match="Out of range"):
        script_json([float("nan")])
