"""Each command does its job on a model file as a user would write it."""

import json

import torch
from safetensors.torch import load_file

import fanin

X = "float32[8,16]"


def test_version_names_the_kernel(fanin_command):
    status, out, _ = fanin_command("--version")
    assert status == 0
    assert out.startswith(f"fanin {fanin.__version__} (kernel: ")


def test_plan_shows_scheme_and_reason(fanin_command, model_file):
    status, out, _ = fanin_command("plan", f"{model_file}:make", "--input", X)
    assert status == 0
    assert "body.0.weight" in out
    assert "relu" in out.lower()


def test_inputs_that_the_target_returns(fanin_command, model_file):
    status, out, _ = fanin_command("plan", f"{model_file}:with_inputs")
    assert status == 0
    assert "head.weight" in out


def test_a_plan_is_saved_edited_and_applied(fanin_command, model_file, tmp_path):
    target, path, out = f"{model_file}:make", tmp_path / "plan.yaml", tmp_path / "w.safetensors"
    assert (
        fanin_command("plan", target, "--input", X, "--set", "head.weight=zeros", "--save", path)[0]
        == 0
    )
    assert fanin_command("init", target, "--plan", path, "--seed", "3", "--out", out)[0] == 0
    weights = load_file(out)
    assert weights["head.weight"].abs().max() == 0
    assert weights["body.0.weight"].std() > 0.1


def test_init_gives_the_bytes_that_python_gives(fanin_command, model_file, tmp_path):
    out = tmp_path / "w.safetensors"
    assert (
        fanin_command("init", f"{model_file}:make", "--input", X, "--seed", "5", "--out", out)[0]
        == 0
    )
    model = torch.nn.Module()
    model.body = torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU()
    )
    model.head = torch.nn.Linear(32, 4)
    model.forward = lambda x: model.head(model.body(x))
    fanin.initialize(model, torch.randn(8, 16), seed=5)
    for name, tensor in load_file(out).items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_check_fails_on_a_bad_start_and_writes_reports(fanin_command, model_file, tmp_path):
    page, data = tmp_path / "check.html", tmp_path / "check.sarif"
    status, out, _ = fanin_command(
        "check",
        f"{model_file}:zeros",
        "--data",
        f"{model_file}:batch",
        "--save",
        page,
        "--save",
        data,
    )
    assert status == 1
    assert "FAN" in out
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    assert json.loads(data.read_text())["version"] == "2.1.0"


def test_check_passes_a_good_start(fanin_command, model_file):
    arguments = ("check", f"{model_file}:make", "--data", f"{model_file}:batch", "--recipe", "auto")
    assert fanin_command(*arguments)[0] == 0


def test_adopt_loads_what_fits_and_names_the_rest(fanin_command, model_file, tmp_path):
    out = tmp_path / "adopted.safetensors"
    checkpoint = tmp_path / "backbone.pt"
    torch.manual_seed(7)
    weights = {"body.0.weight": torch.randn(32, 16), "body.0.bias": torch.randn(32)}
    torch.save(weights, checkpoint)
    status, printed, _ = fanin_command(
        "adopt", f"{model_file}:make", checkpoint, "--input", X, "--out", out
    )
    assert status == 0
    assert "loaded" in printed
    assert "initialised" in printed
    for name, tensor in weights.items():
        assert torch.equal(load_file(out)[name], tensor)


def test_compare_writes_report_and_numbers(fanin_command, model_file, tmp_path):
    status, out, err = fanin_command(
        "compare",
        f"{model_file}:make",
        "--data",
        f"{model_file}:load",
        "--recipes",
        "zeros,kaiming_normal",
        "--seeds",
        "3",
        "--steps",
        "30",
        "--lr",
        "0.05",
    )
    assert status == 0, err
    assert "kaiming_normal" in out
    assert (tmp_path / "fanin-study" / "report.html").stat().st_size > 100_000
    study = json.loads((tmp_path / "fanin-study" / "study.json").read_text())
    assert len(study["trials"]) == 6


def test_every_rule_scheme_and_recipe_is_listed_and_explained(fanin_command):
    for listing, table in (
        ("rules", fanin.RULES),
        ("schemes", fanin.SCHEMES),
        ("recipes", fanin.RECIPES),
    ):
        status, out, _ = fanin_command(listing)
        assert status == 0
        for name in table:
            assert name in out
    for code in fanin.RULES:
        status, out, _ = fanin_command("rule", code)
        assert status == 0
        assert code in out
        assert len(out.splitlines()) > 8
    for name in fanin.SCHEMES:
        assert fanin_command("scheme", name)[0] == 0


def test_explain_gives_the_chain_of_reasons(fanin_command, model_file):
    status, out, _ = fanin_command("explain", f"{model_file}:make", "--at", "body", "--input", X)
    assert status == 0
    assert "body.0.weight" in out
    assert "fan_in 16" in out
    assert "head.weight" not in out


def test_explain_names_the_nearest(fanin_command, model_file):
    status, _, err = fanin_command("explain", f"{model_file}:make", "--at", "hed", "--input", X)
    assert status == 2
    assert "head.weight" in err
