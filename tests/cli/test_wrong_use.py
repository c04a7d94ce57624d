"""Wrong use: one clear line, exit status 2, nothing half-written."""

import os

import pytest
import torch

X = "float32[8,16]"


def one_line(result, *parts):
    status, out, err = result
    assert status == 2, (status, out, err)
    assert err.count("\n") == 1, err
    assert err.startswith("fanin: ")
    assert "Traceback" not in err
    for part in parts:
        assert part in err, err


def test_wrong_input_shape(fanin_command, model_file):
    one_line(fanin_command("plan", f"{model_file}:make", "--input", "float32[8,17]"), "17")


def test_a_model_that_raises(fanin_command, model_file):
    one_line(fanin_command("check", f"{model_file}:Raises", "--input", X), "on purpose")


def test_a_builder_that_raises(fanin_command, model_file):
    one_line(fanin_command("plan", f"{model_file}:broken", "--input", X), "no weights today")


def test_integer_parameters(fanin_command, model_file):
    status, out, _ = fanin_command("init", f"{model_file}:Integers", "--input", X)
    # An integer table is no weight: it is named and left, the rest is initialised.
    assert status == 0
    assert "table" in out
    one_line(
        fanin_command("init", f"{model_file}:Integers", "--input", X, "--set", "table=normal"),
        "table",
        "int64",
    )


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("scheme", "kaiming_norml"), "kaiming_normal"),
        (("rule", "vanishing-activation"), "vanishing-activations"),
        (("plan", "{file}:make", "--input", X, "--recipe", "xavier_norml"), "xavier_normal"),
        (("check", "{file}:make", "--input", X, "--select", "exploding-gradient"), "exploding"),
        (("check", "{file}:make", "--input", X, "--fail-on", "warnin"), "warning"),
        (("plan", "{file}:mak", "--input", X), "make"),
        (("plan", "{file}:make", "--input", X, "--set", "hed.*=zeros"), "head"),
    ],
)
def test_unknown_names_list_the_nearest(fanin_command, model_file, arguments, nearest):
    arguments = [a.format(file=model_file) for a in arguments]
    one_line(fanin_command(*arguments), nearest)


@pytest.mark.parametrize(
    "target",
    ["nowhere.py:make", "{file}", "{file}:number", "{file}:needs", "no.such.module:make"],
)
def test_targets_that_cannot_be_used(fanin_command, model_file, target):
    one_line(fanin_command("plan", target.format(file=model_file), "--input", X), "target")


@pytest.mark.parametrize("text", ["float31[8,16]", "[8]", "int64[4]", "float32[a]"])
def test_inputs_that_cannot_be_read(fanin_command, model_file, text):
    one_line(fanin_command("plan", f"{model_file}:make", "--input", text), "--input")


def test_no_inputs(fanin_command, model_file):
    one_line(fanin_command("plan", f"{model_file}:make"), "--input")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_a_corrupt_checkpoint(fanin_command, model_file, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00not a checkpoint")
    out = tmp_path / "out.safetensors"
    one_line(fanin_command("adopt", f"{model_file}:make", path, "--input", X, "--out", out), name)
    assert not out.exists()


def test_a_checkpoint_that_is_not_there(fanin_command, model_file):
    one_line(
        fanin_command("adopt", f"{model_file}:make", "no.safetensors", "--input", X), "no.safe"
    )


def test_a_checkpoint_of_another_model(fanin_command, model_file, tmp_path):
    torch.save({"other.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    one_line(
        fanin_command("adopt", f"{model_file}:make", tmp_path / "other.pt", "--input", X), "other"
    )


@pytest.mark.parametrize(
    "option", ["check --save", "compare --report", "init --out", "plan --save"]
)
def test_unwritable_reports_are_refused_before_any_work(fanin_command, model_file, option):
    command, flag = option.split()
    path = "no/such/folder/report.html"
    one_line(
        fanin_command(command, f"{model_file}:make", "--input", X, flag, path)
        if command != "compare"
        else fanin_command(command, f"{model_file}:make", flag, path),
        "no/such/folder",
    )
    assert not os.path.exists("no")


@pytest.mark.parametrize("option", ["check --save", "plan --save"])
def test_an_unknown_form_of_report_is_refused_before_any_work(fanin_command, model_file, option):
    command, flag = option.split()
    done = fanin_command(command, f"{model_file}:make", "--input", X, flag, "report.pdf")
    one_line(done, "unknown extension '.pdf'")
    assert not done[1]


def test_an_unknown_loss_names_the_nearest(fanin_command, model_file):
    arguments = ("--data", f"{model_file}:load", "--loss")
    one_line(fanin_command("check", f"{model_file}:make", *arguments, "huberr"), "huber")
    status, _, err = fanin_command("check", f"{model_file}:make", *arguments, "cross_entropy")
    assert status < 2, err


def test_nan_in_the_data(fanin_command, model_file):
    one_line(
        fanin_command("compare", f"{model_file}:make", "--data", f"{model_file}:nan_load"), "NaN"
    )
    one_line(
        fanin_command("check", f"{model_file}:make", "--data", f"{model_file}:nan_load"), "NaN"
    )


def test_unknown_command_and_option(fanin_command, model_file):
    one_line(fanin_command("plam"), "plam")
    one_line(fanin_command("plan", f"{model_file}:make", "--inptu", X), "--inptu")
