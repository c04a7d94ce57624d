"""Trials and studies on disk: exact, whole, and with clear errors."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.checking.findings import Finding, Severity
from fanin.comparing import storage
from fanin.comparing.serial import plain, trial_from_json, trial_to_json
from fanin.comparing.storage import TrialStore, prepare_folder, trial_key, write_whole
from fanin.comparing.study import LayerSnapshot, Study, Trial
from fanin.errors import DataError, OutputError
from fanin.signals import Histogram

LINEAR = Histogram(tuple([-1.0 + 0.3 * i for i in range(5)]), (1, 2, 3, 4))
UNEVEN = Histogram((0.0, 0.1, 10.0), (5, 6))
POINT = Histogram((2.0, 2.0), (64,))


def trial(**changes):
    finding = Finding(
        "FAN103", "vanishing", Severity.ERROR, "0.weight", "gone", {"rms": 1e-9}, "1", "He"
    )
    fields = {
        "model": "mlp",
        "recipe": "torch",
        "learning_rate": 0.1,
        "seed": 3,
        "status": "diverged",
        "losses": (2.3, 1e30, math.inf),
        "accuracies": (0.1, 0.2, 0.0),
        "held_out_steps": (0, 2),
        "held_out_losses": (2.3, float("nan")),
        "held_out_accuracies": (0.1, 0.1),
        "gradient_steps": (0,),
        "gradient_norms": {"0.weight": (float("nan"),)},
        "layers": (LayerSnapshot("0.weight", LINEAR, UNEVEN, None, POINT, float("nan"), math.inf),),
        "findings": (finding,),
        "seconds": 0.25,
        "trained": "together",
    }
    return Trial(**{**fields, **changes})


def text_of(value):
    return json.dumps(trial_to_json(value), allow_nan=False)


def test_a_trial_survives_the_round_trip_exactly():
    finite = trial(losses=(2.3, 0.1), held_out_losses=(1.0, 2.0))
    back = trial_from_json(json.loads(text_of(finite)))
    assert back == finite
    wild = trial_from_json(json.loads(text_of(trial())))
    assert text_of(wild) == text_of(trial())
    assert wild == trial()
    assert wild.losses == (2.3, 1e30, math.inf)
    assert math.isnan(wild.held_out_losses[1])


@given(
    st.lists(st.floats(), max_size=5),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=6, unique=True),
)
def test_any_numbers_survive(losses, edges):
    histogram = Histogram(tuple(sorted(edges)), tuple(range(len(edges) - 1)))
    layer = LayerSnapshot("w", histogram, None, None, None)
    before = trial(losses=tuple(losses), layers=(layer,))
    after = trial_from_json(json.loads(text_of(before)))
    assert list(map(repr, after.losses)) == list(map(repr, losses))
    assert after.layers == before.layers


def test_equal_bins_are_stored_by_their_ends():
    assert "edges" not in trial_to_json(trial())["layers"][0]["weight_start"]
    assert "edges" in trial_to_json(trial())["layers"][0]["weight_end"]


def test_a_study_survives_save_and_load(tmp_path):
    finite = trial(losses=(2.3, 0.1), held_out_losses=(1.0, 2.0))
    study = Study((finite,), {"recipes": ["torch"], "steps": 2}, complete=False)
    path = study.save(tmp_path / "study.json")
    assert Study.load(path) == study
    json.loads(path.read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": "other"}', '{"format": "fanin-study-1", "trials": 3}',
     '{"format": "fanin-study-1", "trials": [{}]}', '{"format": "fanin-study-1", "trials": [7]}'],
)  # fmt: skip
def test_broken_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"Study\.save"):
        Study.load(tmp_path / "x.json")
    with pytest.raises(DataError, match="cannot be read"):
        Study.load(tmp_path / "none.json")


def test_the_store_finds_what_it_kept(tmp_path):
    store = TrialStore(prepare_folder(tmp_path / "a" / "b"))
    kept = trial(losses=(1.0,), held_out_losses=(1.0, 2.0))
    assert store.load("mlp/torch seed 3", "k1") is None
    store.save("mlp/torch seed 3", "k1", kept)
    assert store.load("mlp/torch seed 3", "k1") == kept
    assert store.load("mlp/torch seed 3", "k2") is None
    assert store.count() == 1
    path = store.path("mlp/torch seed 3", "k1")
    path.write_text(path.read_text()[:50])
    assert store.load("mlp/torch seed 3", "k1") is None


def test_keys_do_not_depend_on_order_and_tell_values_apart():
    assert trial_key({"a": 1, "b": [2]}) == trial_key({"b": [2], "a": 1})
    assert trial_key({"a": 1}) != trial_key({"a": 1.5})


def test_settings_become_plain_json():
    value = {"a": (1, 2.0, math.nan), 3: Path("x"), "n": None}
    assert plain(value) == {"a": [1, 2.0, "nan"], "3": "x", "n": None}


def test_a_file_in_the_way_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="is a file"):
            prepare_folder(path)


@pytest.mark.skipif(os.geteuid() == 0 or sys.platform == "win32", reason="root may write anywhere")
def test_a_folder_without_rights_is_an_output_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_folder(tmp_path / "closed")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_whole(path, "old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "x.json", "new")
    assert os.listdir(tmp_path) == []


def test_bad_paths_of_a_report(tmp_path):
    study = Study(())
    with pytest.raises(OutputError, match=r"Use \.html or \.json"):
        study.save(tmp_path / "x.pdf")
    with pytest.raises(OutputError, match="none"):
        study.save(tmp_path / "none" / "x.json")
    (tmp_path / "d.json").mkdir()
    with pytest.raises(OutputError):
        study.save(tmp_path / "d.json")
    assert os.listdir(tmp_path) == ["d.json"]
