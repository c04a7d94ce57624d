"""Figures by name: what they show, and what they do with broken, missing and hostile values."""

import inspect
import math
import re
from pathlib import Path

import pytest
from report_samples import HOSTILE, MARKUP, a_study, a_trial, histogram

from fanin.comparing.study import LayerSnapshot, Study
from fanin.errors import UnknownNameError
from fanin.reporting import plots
from fanin.reporting.plots.picture import log_ticks

NAMES = {
    "loss_curves",
    "accuracy_curves",
    "weight_histograms",
    "activation_distributions",
    "gradient_distributions",
    "gradient_norms",
    "gradients_by_layer",
    "activations_by_layer",
    "convergence_speed",
    "final_losses",
}


@pytest.fixture(scope="module")
def study():
    return a_study(recipes=("zeros", "torch", "kaiming_normal"), seeds=3, steps=120)


def of(picture, recipe, **meta):
    return [
        t
        for t in picture.traces
        if t["meta"]["recipe"] == recipe and all(t["meta"][k] == v for k, v in meta.items())
    ]


def test_the_table_holds_every_figure():
    assert set(plots.FIGURES) == NAMES
    for draw in plots.FIGURES.values():
        assert inspect.getdoc(draw)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_figure_is_a_plotly_figure_with_every_recipe(study, name):
    figure = plots.figure(study, name)
    shown = {trace.meta["recipe"] for trace in figure.data}
    assert shown <= {"zeros", "torch", "kaiming_normal"}
    assert {"torch", "kaiming_normal"} <= shown
    assert figure.layout.title.text
    assert study.figure(name).to_json() == figure.to_json()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_one_colour_per_recipe_everywhere(study, name):
    first = plots.loss_curves(study)
    colour = of(first, "torch", paint="line")[0]["line"]["color"]
    for trace in of(plots.PICTURES[name](study), "torch", paint="line"):
        assert (trace.get("line") or trace["marker"])["color"] == colour


@pytest.mark.parametrize("name", sorted(NAMES))
def test_recipes_and_models_can_be_chosen(study, name):
    picture = plots.PICTURES[name](study, model="cnn", recipes=["torch"])
    assert {t["meta"]["recipe"] for t in picture.traces} == {"torch"}
    with pytest.raises(UnknownNameError, match="Nearest: cnn"):
        plots.PICTURES[name](study, model="cn")
    with pytest.raises(UnknownNameError, match="torch"):
        plots.PICTURES[name](study, recipes=["touch"])


def test_unknown_figures_and_layers_name_the_nearest(study):
    with pytest.raises(UnknownNameError, match="loss_curves"):
        plots.figure(study, "loss_curve")
    with pytest.raises(UnknownNameError, match=r"2\.weight"):
        plots.figure(study, "weight_histograms", layer="2.weigth")
    with pytest.raises(UnknownNameError, match=r"2\.weight"):
        plots.figure(study, "gradient_norms", layer="2.weigth")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_study_without_trials_gives_an_empty_figure(name):
    assert len(plots.figure(Study(()), name).data) == 0


@pytest.mark.parametrize("name", sorted(NAMES))
def test_trials_that_measured_nothing_but_a_loss_are_fine(name):
    bare = a_trial(
        accuracies=(),
        held_out_steps=(),
        held_out_losses=(),
        held_out_accuracies=(),
        gradient_steps=(),
        gradient_norms={},
        layers=(),
        findings=(),
    )
    plots.figure(Study((bare,)), name)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_are_shown_as_they_are(name):
    trials = tuple(a_trial(HOSTILE, recipe, 0) for recipe in (HOSTILE, MARKUP))
    study = Study(trials, {"target_losses": {HOSTILE: 1.5}})
    text = plots.figure(study, name).to_json()
    labels = [t.get("name", "") for t in plots.PICTURES[name](study).traces]
    assert labels
    assert all("<" not in label for label in labels)
    assert "&lt;script&gt;" in text


def test_a_diverged_run_ends_with_a_cross(study):
    wild = a_trial("mlp", "torch", 9, diverges_at=30)
    picture = plots.loss_curves(Study((wild,)))
    (cross,) = [t for t in of(picture, "torch") if t["mode"] == "markers"]
    assert cross["x"] == [29]
    assert cross["y"][0] == pytest.approx(wild.losses[29], rel=1e-4)
    assert all(v is None or math.isfinite(v) for t in picture.traces for v in t["y"])


def test_loss_on_a_log_axis_only_if_all_losses_are_positive(study):
    assert plots.loss_curves(study).layout["yaxis"]["type"] == "log"
    below = a_trial(losses=(3.0, 1.0, -1.0))
    assert plots.loss_curves(Study((below,))).layout["yaxis"].get("type") != "log"


def test_curves_have_at_most_300_points():
    long = Study((a_trial(steps=5000), a_trial(seed=1, steps=5000)))
    (line,) = of(plots.loss_curves(long), "torch", paint="line")
    assert len(line["x"]) <= 300


def test_gradient_norm_of_all_weights_is_the_root_of_the_sum_of_squares():
    trial = a_trial(gradient_steps=(0, 5), gradient_norms={"a": (3.0, 6.0), "b": (4.0, 8.0)})
    study = Study((trial,))
    (line,) = of(plots.gradient_norms(study), "torch", paint="line")
    assert line["x"] == [0, 5]
    assert line["y"] == [5.0, 10.0]
    (line,) = of(plots.gradient_norms(study, layer="b"), "torch", paint="line")
    assert line["y"] == [4.0, 8.0]


def test_zero_is_named_where_a_log_axis_cannot_show_it(study):
    picture = plots.activations_by_layer(study)
    assert not [t for t in of(picture, "zeros") if any(v for v in t["y"])]
    assert "zeros" in picture.caption


def test_by_layer_shows_the_median_in_the_order_of_the_network():
    trials = tuple(
        a_trial(
            seed=seed,
            layers=tuple(
                LayerSnapshot(n, histogram([0, 1]), None, None, None, rms * (seed + 1), 1.0)
                for n, rms in (("b", 1.0), ("a", 10.0))
            ),
        )
        for seed in range(3)
    )
    (line,) = of(plots.activations_by_layer(Study(trials)), "torch", paint="line")
    assert line["x"] == [1, 2]
    assert line["y"] == [2.0, 20.0]
    assert line["text"] == ["b", "a"]


def test_a_constant_tensor_is_one_vertical_line(study):
    (start,) = of(plots.weight_histograms(study, recipes=["zeros"]), "zeros", paint="line")
    assert start["x"] == [0.0, 0.0]
    assert start["type"] == "scatter"


def test_histogram_and_density_at_start_and_end(study):
    picture = plots.weight_histograms(study, recipes=["torch"])
    kinds = [(t["type"], t["meta"]["paint"]) for t in picture.traces]
    assert kinds == [("bar", "bars"), ("scatter", "line"), ("bar", "inkbars"), ("scatter", "ink")]
    bars = picture.traces[0]
    mass = sum(height * bars["width"] for height in bars["y"])
    assert mass == pytest.approx(1, abs=1e-3)
    assert picture.note.startswith("std 0.07")


def test_final_losses_and_steps_agree_with_the_summary(study):
    row = next(r for r in study.summary()["mlp"].rows if r.recipe == "torch")
    dots, mean = of(plots.final_losses(study), "torch")
    assert len(dots["x"]) == 3
    assert mean["x"][0] == pytest.approx(row.final_loss.mean, rel=1e-4)
    dots, mean = of(plots.convergence_speed(study), "torch")
    assert mean["x"][0] == pytest.approx(row.steps_to_target.mean, rel=1e-4)
    assert "zeros" in plots.convergence_speed(study).caption


def test_a_recipe_of_which_a_seed_diverged_has_no_interval():
    trials = (a_trial(seed=0), a_trial(seed=1), a_trial(seed=2, diverges_at=5))
    (dots,) = of(plots.final_losses(Study(trials)), "torch")
    assert len(dots["x"]) == 2


def test_the_learning_rate_shown_is_the_best():
    slow = [a_trial(seed=s, learning_rate=0.1, losses=(2.0,) * 50) for s in range(2)]
    fast = [a_trial(seed=s, learning_rate=0.2, losses=(2.0,) * 25 + (0.5,) * 25) for s in range(2)]
    picture = plots.final_losses(Study((*slow, *fast)))
    assert of(picture, "torch")[0]["x"] == [0.5, 0.5]


@pytest.mark.parametrize(("low", "high"), [(0.02, 2.5), (1e-30, 3.0), (0.9, 40.0), (1.0, 3.1)])
def test_log_ticks_are_few_and_within_reach(low, high):
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 13
    assert ticks == sorted(ticks)
    assert ticks[0] <= low * 1.0001
    assert ticks[-1] >= high * 0.9999 or len(ticks) > 5
    assert sum(low <= tick <= high for tick in ticks) >= 2


def test_the_page_of_the_docs_lists_every_figure():
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page.partition("## Figures")[2], re.MULTILINE)
    assert listed
    assert set(listed) == set(plots.FIGURES)
