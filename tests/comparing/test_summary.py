"""Who wins, on trials made by hand whose answer is known."""

import math

import pytest

from fanin.comparing.scores import best_rate, default_metric, scores
from fanin.comparing.statistics import Interval
from fanin.comparing.study import Study, Trial
from fanin.comparing.summary import NOT_DIFFERENT, UNKNOWN, WORSE
from fanin.comparing.summary_table import _plain
from fanin.errors import UnknownNameError


def trial(recipe, seed, accuracy=0.5, loss=1.0, *, rate=0.1, diverged=False, losses=None, **more):
    series = losses or (2.3, *([loss] * 19))
    return Trial(
        model=more.pop("model", "net"),
        recipe=recipe,
        learning_rate=rate,
        seed=seed,
        status="diverged" if diverged else "finished",
        losses=(2.3, math.inf) if diverged else tuple(series),
        held_out_steps=(0, 20),
        held_out_losses=(2.3, loss),
        held_out_accuracies=(0.1, accuracy),
        **more,
    )


def study(table, **settings):
    trials = [
        trial(recipe, seed, accuracy)
        for recipe, accuracies in table.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    return Study(tuple(trials), {"steps": 20, "target_losses": {"net": 1.15}, **settings})


CLEAR = {
    "good": [0.95, 0.96, 0.95, 0.94, 0.96],
    "bad": [0.50, 0.51, 0.49, 0.50, 0.52],
    "zeros": [0.10, 0.10, 0.10, 0.10, 0.10],
}


def test_a_clear_winner_wins_with_its_interval():
    summary = study(CLEAR).summary()
    model = summary["net"]
    assert (model.best, model.winner) == ("good", "good")
    assert [r.verdict for r in model.rows] == ["best", WORSE, WORSE]
    assert "good wins with held-out accuracy 95.2 % (94.2 to 96.2)" in summary.sentence
    gaps = [a - b for a, b in zip(CLEAR["good"], CLEAR["bad"], strict=True)]
    assert model.rows[1].difference.mean == pytest.approx(-sum(gaps) / 5)
    assert model.rows[1].difference.high < 0
    assert f"{100 * sum(gaps) / 5:.1f} points better" in summary.sentence


def test_noise_is_no_winner():
    noisy = {"a": [0.90, 0.93, 0.91, 0.95, 0.92], "b": [0.92, 0.91, 0.93, 0.92, 0.94]}
    result = study(noisy)
    model = result.summary()["net"]
    assert model.winner is None
    assert model.rows[0].verdict == NOT_DIFFERENT
    assert "no significant difference" in model.sentence
    assert result.significant == ()


def test_ties_at_the_top_and_a_loser():
    table = {"a": [0.90, 0.93, 0.91, 0.95, 0.92], "b": [0.92, 0.91, 0.93, 0.92, 0.94]}
    result = study({**table, "zeros": [0.1, 0.11, 0.1, 0.09, 0.1]})
    model = result.summary()["net"]
    assert model.winner is None
    assert "no significant difference between b (held-out accuracy" in model.sentence
    assert "b is significantly better than zeros" in model.sentence
    assert {frozenset((c.first, c.second)) for c in result.significant} == {
        frozenset(("a", "zeros")),
        frozenset(("b", "zeros")),
    }


def test_one_seed_gives_no_verdict():
    model = study({"a": [0.9], "b": [0.1]}).summary()["net"]
    assert model.winner is None
    assert model.rows[1].verdict == UNKNOWN
    assert "one seed" in model.sentence


def test_one_recipe_and_no_trials():
    assert "nothing to compare" in study({"a": [0.9, 0.8]}).summary().sentence
    assert Study(()).summary().sentence == "No trial is finished yet."
    assert str(Study(()).summary()) == "No trial is finished yet."
    assert Study(()).significant == ()
    assert Study(()).curves == {}


def test_diverged_trials_count_as_the_worst_and_are_said():
    trials = [trial("steady", s, 0.80 + 0.01 * s) for s in range(5)]
    trials += [trial("risky", s, 0.99) for s in range(2)]
    trials += [trial("risky", s, diverged=True) for s in range(2, 5)]
    result = Study(tuple(trials), {"steps": 20, "target_losses": {"net": 1.15}})
    model = result.summary()["net"]
    # Dropping the three would make risky the best at 0.99.
    assert model.best == "steady"
    risky = model.rows[1]
    assert risky.diverged == 3
    assert risky.score.mean == pytest.approx((2 * 0.99 + 3 * 0.1) / 5)
    assert "3/5" in str(result.summary())
    losses = result.summary("final_loss")["net"].rows[1]
    assert losses.score.mean == pytest.approx((2 * 1.0 + 3 * 2.3) / 5)


def test_all_diverged():
    trials = [trial(r, s, diverged=True) for r in "ab" for s in range(3)]
    model = Study(tuple(trials)).summary()["net"]
    assert model.winner is None
    assert [row.diverged for row in model.rows] == [3, 3]


def test_the_rate_is_chosen_by_training_loss_and_divergence_alone():
    trials = [trial("a", s, accuracy=0.9, loss=1.0, rate=0.1) for s in range(3)]
    trials += [trial("a", s, accuracy=0.1, loss=0.5, rate=0.3) for s in range(3)]
    assert best_rate(trials) == 0.3  # lower training loss, though worse on held-out data
    trials += [trial("a", 3, rate=0.3, diverged=True), trial("a", 3, rate=0.1)]
    assert best_rate(trials) == 0.1
    row = Study(tuple(trials)).summary()["net"].rows[0]
    assert row.learning_rate == 0.1
    assert row.seeds == 4


def test_steps_to_target_are_restricted_and_never_dropped():
    fast = (2.3, 2.0, *([0.5] * 18))
    slow = (2.3,) * 20
    trials = [trial("a", 0, losses=fast), trial("a", 1, losses=slow), trial("b", 0, losses=fast)]
    trials.append(trial("b", 1, losses=fast))
    result = Study(tuple(trials), {"steps": 20, "target_losses": {"net": 1.15}})
    first, second = result.summary()["net"].rows
    # Mean of five: (2.0 + 4 × 0.5)/5 = 0.8 at step 5; (2.3 + 2.0 + 3 × 0.5)/5 = 1.16 at step 4.
    assert second.steps_to_target.mean == 5.0
    assert first.steps_to_target.mean == (5 + 20) / 2
    assert (first.reached, second.reached) == (1, 2)
    assert "(1/2)" in str(result.summary())


def test_one_easy_batch_is_not_convergence():
    assert trial("a", 0, losses=(2.3,) * 6 + (0.1,) + (2.3,) * 13).steps_to(1.15) is None
    assert trial("a", 0, diverged=True).steps_to(1.15) is None


def test_metric_follows_what_was_measured():
    labelled = [trial("a", 0)]
    assert default_metric(labelled).name == "held_out_accuracy"
    from dataclasses import replace

    numbers = [replace(labelled[0], held_out_accuracies=())]
    assert default_metric(numbers).name == "held_out_loss"
    bare = [replace(numbers[0], held_out_losses=(), held_out_steps=())]
    assert default_metric(bare).name == "final_loss"
    table = str(Study(tuple(bare)).summary())
    assert "held-out" not in table
    with pytest.raises(UnknownNameError, match="held_out_accuracy"):
        Study(tuple(labelled)).summary("accuracy")


def test_lower_is_better_for_losses():
    trials = [trial("a", s, loss=0.5 + 0.01 * s) for s in range(5)]
    trials += [trial("b", s, loss=1.5 - 0.01 * s) for s in range(5)]
    model = Study(tuple(trials)).summary("held_out_loss")["net"]
    assert model.winner == "a"
    assert "lower" in model.sentence


def test_networks_are_summarised_apart():
    trials = [trial("a", s, 0.9, model=m) for m in ("one", "two") for s in range(2)]
    result = Study(tuple(trials))
    assert [m.model for m in result.summary().models] == ["one", "two"]
    with pytest.raises(UnknownNameError, match="one"):
        result.summary()["three"]


def test_an_overflowing_held_out_loss_counts_as_the_worst():
    from dataclasses import replace

    wild = replace(trial("a", 0), held_out_losses=(2.3, math.inf))
    values = scores([wild, trial("a", 1, loss=9.0)], default_metric([wild]))
    assert all(math.isfinite(v) for v in values.values())


def test_curves_are_means_with_bands_and_end_with_their_seeds():
    trials = [trial("a", 0, losses=(3.0, 1.0)), trial("a", 1, losses=(1.0, 3.0))]
    trials.append(trial("a", 2, diverged=True))
    curve = Study(tuple(trials)).curves["net"]["a"].loss
    assert curve.steps == (0, 1)
    assert curve.mean == pytest.approx(((3.0 + 1.0 + 2.3) / 3, 2.0))
    assert curve.seeds == (3, 2)
    # Two values 1 apart from their mean, one degree of freedom: ±12.706.
    assert curve.high[1] - curve.mean[1] == pytest.approx(12.706, abs=1e-3)


def test_the_table_is_plain_and_aligned():
    lines = str(study(CLEAR).summary()).splitlines()
    assert lines[0] == "net"
    assert lines[1].split()[:2] == ["recipe", "lr"]
    assert max(len(line) for line in lines[1:5]) <= 120
    assert all("\x1b" not in line for line in lines)


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.3921, 0.161, "0.39 ±0.16"),
        (0.01904, 0.0099, "0.0190 ±0.0099"),
        (2.302585, 4e-7, "2.3026 ±0.0000"),
        (2.302585, 0.0, "2.303 ±0.000"),
        (152.3, 31.0, "152 ±31"),
        (1.5e30, 2.5e29, "1.5e+30 ±2.5e+29"),
        (0.5, math.nan, "0.5"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_supports(mean, half, text):
    assert _plain(Interval(mean, mean - half, mean + half, 5)) == text
