"""A whole study: what it records, that it goes on where it stopped, and what it refuses."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import fanin
from fanin.comparing import compare as compare_module_function
from fanin.comparing import trials as trials_module
from fanin.comparing.digits import RECIPES
from fanin.errors import DataError, OutputError, UnknownNameError

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
SMALL = {"seeds": 3, "steps": 8, "learning_rates": [0.05], "batch_size": 16, "progress": False}


def net():
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))


def dropping():
    return nn.Sequential(nn.Linear(6, 12), nn.Dropout(0.3), nn.Linear(12, 3))


def study(build=net, data=(X, Y), recipes=("zeros", "kaiming_normal"), **changes):
    return fanin.compare(build, data, recipes, **{**SMALL, **changes})


def without_time(result):
    return [replace(trial, seconds=0.0) for trial in result.trials]


def test_it_is_the_public_compare():
    assert fanin.compare is compare_module_function


def test_every_trial_records_what_it_should():
    result = study(learning_rates=[0.05, 0.1])
    assert result.complete
    arms = [(t.recipe, t.learning_rate, t.seed) for t in result.trials]
    assert arms == [(r, lr, s) for r in ("zeros", "kaiming_normal") for lr in (0.05, 0.1)
                    for s in range(3)]  # fmt: skip
    for trial in result.trials:
        assert len(trial.losses) == len(trial.accuracies) == 8
        assert trial.held_out_steps[0] == 0
        assert trial.held_out_steps[-1] == 8
        assert len(trial.held_out_losses) == len(trial.held_out_steps)
        assert set(trial.gradient_norms) == {"0.weight", "2.weight"}
        assert all(len(n) == len(trial.gradient_steps) for n in trial.gradient_norms.values())
        assert [layer.weight for layer in trial.layers] == ["0.weight", "2.weight"]
        assert sum(trial.layers[0].weight_end.counts) == 72
        assert trial.layers[0].activation_start is not None
        assert trial.layers[0].gradient_start is not None
        assert trial.trained == "together"
        # The check's findings stand with the first seed.
        assert bool(trial.findings) == (trial.seed == 0 and trial.recipe == "zeros")
    zeros = result.trials[0]
    assert zeros.losses[0] == pytest.approx(math.log(3))
    settings = result.settings
    assert settings["parameters"] == {"net": 6 * 12 + 12 + 12 * 3 + 3}
    assert settings["target_loss"] == pytest.approx(0.5 * math.log(3))
    assert settings["recipes"] == ["zeros", "kaiming_normal"]
    assert (settings["training_samples"], settings["held_out_samples"]) == (77, 19)


def test_the_first_loss_is_that_of_fanin_initialize():
    """Independent of all of compare's machinery: by hand, on the first batch."""
    from fanin.comparing.dataset import batch_rows, read_data

    result = study(recipes=["kaiming_normal"])
    split = read_data((X, Y), rows_needed=8 * 16)
    rows = batch_rows(len(split.train), 16, 8)[0]
    for trial in result.trials:
        model = net()
        fanin.initialize(model, split.train.x[rows], "kaiming_normal", seed=trial.seed)
        loss = nn.functional.cross_entropy(model(split.train.x[rows]), split.train.y[rows])
        assert trial.losses[0] == pytest.approx(loss.item(), rel=1e-5)


def test_together_and_one_by_one_give_the_same_study():
    together = study(out="a")
    alone = study(out="b", engine="one by one")
    assert alone.trials[0].trained == "one by one: as asked"
    for one, other in zip(together.trials, alone.trials, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-4)
        assert one.held_out_accuracies == pytest.approx(other.held_out_accuracies, abs=0.06)


def test_a_model_that_cannot_be_stacked_is_trained_one_by_one_and_said_so():
    result = study(dropping)
    assert all(t.trained.startswith("one by one: it draws random numbers") for t in result.trials)
    assert "one by one" in result.settings["descriptions"]["dropping"]
    # The masks are those of the seed: running anew gives the same numbers.
    assert without_time(study(dropping, out="again")) == without_time(result)


def test_the_callers_random_numbers_and_threads_go_on_untouched():
    torch.manual_seed(1)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(1)
        study()
        study(dropping)
        assert torch.equal(torch.rand(3), expected)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_number_of_cores_does_not_change_a_stacked_study():
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append([t.losses for t in study(steps=30, out=f"on-{count}").trials])
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_a_second_call_trains_nothing(monkeypatch):
    first = study()
    monkeypatch.setattr(trials_module, "train_together", lambda *a: pytest.fail("trained again"))
    monkeypatch.setattr(trials_module, "train_one", lambda *a: pytest.fail("trained again"))
    assert study().trials == first.trials
    assert study().summary() == first.summary()


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 9},
        {"learning_rates": [0.06]},
        {"optimizer": "adam"},
        {"batch_size": 8},
        {"data": (X + 1, Y)},
        {"build": lambda: nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))},
        {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_other_settings_start_afresh_and_say_so(change, capfd):
    first = study({"net": net})
    count = len(os.listdir("fanin-study/trials"))
    build = {"net": change.pop("build", net)}
    other = study(build, **change, progress=None)
    assert "other settings" in capfd.readouterr().err
    assert other.complete
    assert [t.losses for t in other.trials] != [t.losses for t in first.trials]
    assert len(os.listdir("fanin-study/trials")) == 2 * count


def test_rates_that_print_alike_are_not_taken_for_each_other():
    study(learning_rates=[0.05])
    second = study(learning_rates=[0.05000001])
    assert {t.learning_rate for t in second.trials} == {0.05000001}


SCRIPT = """
import signal, sys, torch, fanin
from torch import nn
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell job ignores it
x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
study = fanin.compare(
    lambda: nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3)), (x, (x[:, 0] > 0).long()),
    ["zeros", "torch"], seeds=400, steps=50, learning_rates=0.01)
print(study.complete, len(study.trials))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_real_ctrl_c_stops_soon_and_keeps_what_is_finished(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    kept = tmp_path / "fanin-study" / "trials"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(kept.glob("*.json"))) < 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    complete, count = out.split()
    assert complete == "False"
    assert 4 <= int(count) == len(list(kept.glob("[!.]*.json"))) < 800
    assert f"Interrupted: {count} of 800 trials" in err
    assert "Traceback" not in err


def test_more_seeds_go_on_from_fewer(capfd):
    first = study(seeds=2)
    more = study(seeds=3, progress=None)
    assert "4 of 6 trials were finished before" in capfd.readouterr().err
    assert [t for t in more.trials if t.seed < 2] == list(first.trials)


@pytest.fixture
def one_core():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# On one core the seeds train one after the other, so that it is known which are finished.
@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("build", [net, dropping])
def test_an_interrupt_keeps_what_is_finished_and_running_again_goes_on(build, monkeypatch, capfd):
    whole = study(build, out="whole")
    saved = []

    def interrupted(self, *args, keep=trials_module.Workshop._built):
        # Ctrl-C arrives when the last seed is about to be trained.
        if args[0].seed == 2:
            raise KeyboardInterrupt
        saved.append(args[0])
        return keep(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(trials_module.Workshop, "_built", interrupted)
        part = study(build, progress=None)
    assert not part.complete
    assert 0 < len(part.trials) < len(whole.trials)
    assert {t.seed for t in part.trials} == {0, 1}
    message = capfd.readouterr().err
    assert f"Interrupted: {len(part.trials)} of 6 trials" in message
    assert "Run the same again" in message
    assert part.summary().notes
    rest = study(build)
    assert rest.complete
    assert without_time(rest) == without_time(whole)


def test_an_error_in_the_middle_is_raised_and_leaves_no_thread(monkeypatch):
    import threading

    before = threading.active_count()

    def full(self, *args):
        raise OutputError("x: the disk is full.")

    monkeypatch.setattr("fanin.comparing.storage.TrialStore.save", full)
    with pytest.raises(OutputError, match="disk is full"):
        study()
    assert threading.active_count() == before


def test_a_diverged_trial_is_kept_and_said():
    targets = X @ torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    result = study(data=(X, targets), learning_rates=[0.01, 1e9], steps=40)
    wild = [t for t in result.trials if t.learning_rate == 1e9 and t.recipe == "kaiming_normal"]
    assert len(wild) == 3
    assert all(t.diverged and not math.isfinite(t.losses[-1]) for t in wild)
    assert all(t.accuracies == () for t in result.trials)
    # The grid rescues the recipe: its best rate is the one that did not diverge.
    assert {r.learning_rate for r in result.summary()["net"].rows} == {0.01}
    result.save("study.json")
    assert fanin.Study.load("study.json").to_json() == result.to_json()


def test_adam_own_optimizer_own_loss_and_a_scheme():
    import functools

    result = study(optimizer="adam", recipes=[fanin.schemes.Normal(std=0.1), "torch"])
    assert result.trials[0].recipe == repr(fanin.schemes.Normal(std=0.1))
    own = study(
        optimizer=functools.partial(torch.optim.SGD),
        recipes={"mine": lambda module: None, "he": "kaiming_normal"},
        loss=nn.functional.multi_margin_loss,
        learning_rates=0.05,
        seeds=[3, 5],
    )
    assert {t.seed for t in own.trials} == {3, 5}
    assert {t.recipe for t in own.trials} == {"mine", "he"}
    assert own.settings["target_loss"] is None
    assert own.trials[0].accuracies


def test_dict_inputs_several_networks_and_datasets():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, *, features, scale):
            return {"logits": self.body(features * scale)}

    data = ({"features": X, "scale": torch.ones(96, 1)}, Y)
    result = study(Named, data=data)
    assert result.trials[0].trained == "together"
    pair = study(
        {"a": net, "b": net()}, data=(TensorDataset(X, Y), TensorDataset(X[:9], Y[:9])), seeds=1
    )
    assert [m.model for m in pair.summary().models] == ["a", "b"]
    assert pair.settings["held_out_samples"] == 9


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        raise RuntimeError("out of luck")


NAN = X.clone()
NAN[0, 0] = float("nan")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"recipes": ["kaiming_norml"]}, UnknownNameError, "kaiming_normal"),
        ({"recipes": []}, DataError, "none given"),
        ({"recipes": ["zeros", "zeros"]}, DataError, "twice"),
        ({"recipes": {"a": 3.5}}, fanin.FaninError, "recipe"),
        ({"data": (NAN, Y)}, DataError, "NaN"),
        ({"data": (X[:0], Y[:0])}, DataError, "empty"),
        ({"data": (X, Y + 1)}, DataError, "y goes from 1 to 3"),
        ({"data": (X, Y - 1)}, DataError, "y goes from -1 to 1"),
        ({"data": (X[:, :5], Y)}, fanin.FaninError, "shape"),
        ({"data": (X, torch.randn(96, 2))}, DataError, "one shape"),
        ({"data": (X, torch.zeros(96, 4, dtype=torch.long))}, DataError, "do not fit labels"),
        ({"build": lambda: 3}, DataError, "returned int"),
        ({"build": lambda: 1 / 0}, DataError, "ZeroDivisionError"),
        ({"build": 7}, DataError, "int"),
        ({"build": {}}, DataError, "empty dict"),
        ({"build": nn.ReLU}, DataError, "nothing to train"),
        ({"build": lambda: nn.LazyLinear(3)}, DataError, "no shape yet"),
        ({"build": lambda: nn.Linear(6, 3, device="meta")}, DataError, "meta"),
        ({"build": Broken}, fanin.FaninError, "out of luck"),
        ({"seeds": 0}, DataError, "seeds"),
        ({"seeds": [1, 1]}, DataError, "each once"),
        ({"seeds": True}, DataError, "seeds"),
        ({"seeds": "many"}, DataError, "seeds"),
        ({"steps": 0}, DataError, "steps"),
        ({"steps": 2.5}, DataError, "steps"),
        ({"batch_size": -1}, DataError, "batch_size"),
        ({"learning_rates": []}, DataError, "none given"),
        ({"learning_rates": [0.1, -1]}, DataError, "not a positive"),
        ({"learning_rates": [float("nan")]}, DataError, "not a positive"),
        ({"learning_rates": [0.1, 0.1]}, DataError, "twice"),
        ({"learning_rates": ["fast"]}, DataError, "numbers"),
        ({"optimizer": "adm"}, UnknownNameError, "adam"),
        ({"optimizer": 3}, DataError, "neither"),
        ({"loss": "mse"}, DataError, "floating-point"),
        ({"loss": lambda output, y: output}, DataError, "scalar"),
        ({"loss": lambda output, y: output.no_such()}, DataError, "no_such"),
        ({"engine": "cluster"}, UnknownNameError, "local"),
        ({"out": "file"}, OutputError, "is a file"),
    ],
)
def test_bad_input_is_one_clear_line_before_any_training(arguments, kind, words, monkeypatch):
    monkeypatch.setattr(trials_module, "train_together", lambda *a: pytest.fail("trained"))
    monkeypatch.setattr(trials_module, "train_one", lambda *a: pytest.fail("trained"))
    open("file", "w").close()
    with pytest.raises(kind, match=words) as error:
        study(**arguments)
    assert "\n" not in str(error.value)
    assert os.listdir() == ["file"]  # nothing half-written


def test_the_built_in_study_in_small():
    """Both networks, all seven recipes: one step of the demo's study."""
    result = fanin.compare(seeds=2, steps=2, learning_rates=[0.01], progress=False)
    assert {t.model for t in result.trials} == {"deep ReLU MLP", "small CNN"}
    assert tuple(dict.fromkeys(t.recipe for t in result.trials)) == RECIPES
    assert len(result.trials) == 2 * 7 * 2
    assert all(t.trained == "together" for t in result.trials)
    assert result.settings["command"] == "fanin compare"
    assert {t.recipe for t in result.trials if t.findings} >= {"zeros"}
