"""Recipes that measure, on the command line: with ``--data``, else with ``--input``."""

import torch
from safetensors.torch import load_file

import fanin


def weights(path):
    return load_file(path)


def test_init_measures_on_the_data(fanin_command, model_file, tmp_path):
    out = tmp_path / "w.safetensors"
    status, shown, _ = fanin_command(
        "init", f"{model_file}:make", "--data", f"{model_file}:batch", "--recipe", "lsuv",
        "--seed", "2", "--out", out,
    )  # fmt: skip
    assert status == 0
    assert "LSUV: output std" in " ".join(shown.split())
    torch.manual_seed(1)
    x = torch.randn(256, 16)
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU(),
        torch.nn.Linear(32, 4),
    )  # fmt: skip
    names = ["body.0", "body.2", "head"]
    for layer, name in zip([model[0], model[2], model[4]], names, strict=True):
        layer.weight.data = weights(out)[f"{name}.weight"]
        layer.bias.data = weights(out)[f"{name}.bias"]
    assert abs(float(model(x).detach().std()) - 1) < 0.11


def test_random_inputs_do_too(fanin_command, model_file):
    status, shown, _ = fanin_command(
        "plan", f"{model_file}:make", "--input", "float32[64,16]", "--recipe", "weight_norm"
    )
    assert status == 0
    assert "factors" in shown


def test_gradinit_takes_the_targets_of_the_data(fanin_command, model_file, monkeypatch):
    from fanin.calibrating.grad_init import GradInit

    seen = []
    monkeypatch.setattr(
        GradInit, "calibrate", lambda self, plan, *rest: seen.append(self.target) or plan
    )
    target, data = f"{model_file}:make", f"{model_file}:batch"
    assert fanin_command("plan", target, "--data", data, "--recipe", "gradinit")[0] == 0
    assert seen[0].shape == (256,)


def test_explain_shows_what_was_measured(fanin_command, model_file):
    status, shown, _ = fanin_command(
        "explain", f"{model_file}:make", "--data", f"{model_file}:batch", "--recipe", "lsuv",
        "--at", "head.weight",
    )  # fmt: skip
    assert status == 0
    assert "LSUV: output std" in " ".join(shown.split())


def test_what_is_missing_is_said(fanin_command, model_file):
    target = f"{model_file}:make"
    status, _, error = fanin_command("init", target, "--recipe", "lsuv")
    assert status == 2
    assert "--data" in error
    status, _, error = fanin_command(
        "init", target, "--input", "float32[8,16]", "--recipe", "gradinit"
    )
    assert status == 2
    assert "GradInit(target=y)" in error
    status, _, error = fanin_command("init", target, "--data", f"{model_file}:number")
    assert status == 2
    assert "must give (inputs, target)" in error
    assert "lsuv" in fanin.RECIPES
