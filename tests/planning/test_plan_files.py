"""Plans as text, YAML and differences."""

import math

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import FaninError, OutputError, PlanError
from fanin.planning import Action, fold_plan
from fanin.schemes import Function, Normal


class Deep(nn.Module):
    def __init__(self, layers=12):
        super().__init__()
        self.table = nn.Embedding(9, 4, padding_idx=0)
        self.layers = nn.ModuleList(nn.LSTM(4, 4, batch_first=True) for _ in range(layers))
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3, groups=2, stride=2))
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x)[0]
        return self.head(x) + self.conv(x.mT).mean()


IDS = torch.arange(8)[None]


@pytest.mark.parametrize("recipe", ["auto", "kaiming_uniform", "torch", "chrono", "shipped"])
def test_yaml_round_trip(tmp_path, recipe):
    plan = fanin.plan(Deep(2), IDS, recipe, keep=["head"])
    plan.save(tmp_path / "plan.yaml")
    again = fanin.Plan.load(tmp_path / "plan.yaml")
    assert again == plan
    assert not plan.diff(again)


def test_the_file_can_be_edited(tmp_path):
    path = tmp_path / "plan.yaml"
    fanin.plan(nn.Linear(4, 2), recipe="xavier_normal").save(path)
    text = path.read_text()
    text = text.replace(
        "scheme: {scheme: Xavier, gain: 1.0, distribution: normal}", "scheme: normal_0.5"
    )
    path.write_text(text.replace("scheme: {scheme: Zeros}", "action: keep"))
    plan = fanin.Plan.load(path)
    assert plan["weight"].scheme == Normal(std=0.5)
    assert plan["weight"].std == 0.5  # computed anew, whatever the file says
    assert plan["bias"].action is Action.KEEP
    fanin.apply(plan, nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "not valid YAML at line"),
        ("just text", "is no plan"),
        ("parameters: {}", "plan format None"),
        ("fanin_plan: 1\nparameters: {w: {scheme: nope_normal}}", "'w'.*nope_normal"),
        ("fanin_plan: 1\nparameters: {w: {shema: zeros}}", "unknown key 'shema'"),
        ("fanin_plan: 1\nparameters: {w: 3}", "'w'.*mapping"),
        ("fanin_plan: 1\nparameters: {w: {role: bias}}", "'w'.*give a 'scheme'"),
        ("fanin_plan: 1\nparameters: {w: {action: draw}}", "'w'.*draw"),
        (
            "fanin_plan: 1\nparameters: {w: {scheme: xavier_normal, shape: [3]}}",
            "'w'.*sums over no inputs",
        ),
        (
            "fanin_plan: 1\nparameters: {w: {scheme: zeros, shape: [3], axes: {outputs: [4]}}}",
            "'w'.*axes",
        ),
        (
            "fanin_plan: 1\nparameters: {w: {scheme: zeros, shape: [3], place: {used: early}}}",
            "'w'.*early",
        ),
        (
            "fanin_plan: 1\nparameters: {w: {scheme: zeros, shape: [3], place: {ran: 3}}}",
            "'w'.*ran",
        ),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path, text, says):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match=says):
        fanin.Plan.load(path)


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(PlanError, match="cannot read"):
        fanin.Plan.load(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(PlanError, match="cannot read"):
        fanin.Plan.load(tmp_path / "b.yaml")


def test_a_plan_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("old")
    odd = fanin.plan(nn.Linear(2, 2), recipe=Function(lambda t: t.fill_(1)))
    with pytest.raises(PlanError, match="'weight' cannot be written"):
        odd.save(path)
    with pytest.raises(PlanError, match="function"):
        fanin.plan(nn.Linear(2, 2), recipe=lambda module: None).save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="cannot write"):
        fanin.plan(nn.Linear(2, 2), recipe="ones").save(tmp_path / "no" / "plan.yaml")
    with pytest.raises(FaninError, match=r"\.yaml"):
        fanin.plan(nn.Linear(2, 2), recipe="ones").save(tmp_path / "plan.txt")


def test_repeated_blocks_are_one_row():
    plan = fanin.plan(Deep(100), recipe="kaiming_normal")
    rows = {row.name: row.count for row in fold_plan(plan)}
    assert rows["layers.*.weight_hh_l0"] == 100
    assert sum(rows.values()) == len(plan)
    text = str(plan)
    assert "×100" in text
    assert len(text.splitlines()) < 20


def test_blocks_that_differ_are_rows_of_their_own():
    plan = fanin.plan(Deep(6), recipe="ones", overrides={"layers.3.weight_hh_l0": "zeros"})
    rows = {row.name: row.count for row in fold_plan(plan)}
    assert rows["layers.*.weight_hh_l0"] == 5
    assert rows["layers.3.weight_hh_l0"] == 1


def test_the_table_shows_std_scheme_and_reason():
    line = next(
        line
        for line in str(fanin.plan(nn.Linear(8, 8), recipe="kaiming_normal")).splitlines()
        if line.startswith("weight")
    )
    assert "Kaiming()" in line
    assert f"{math.sqrt(2 / 8):.4g}" in line
    assert "kaiming_normal on every layer weight" in line


def test_diff_sees_schemes_actions_and_missing_parameters_but_no_reasons():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    one = fanin.plan(net, recipe="xavier_normal")
    other = fanin.plan(net, recipe="xavier_normal", overrides={"1": "zeros"}, keep=["0.bias"])
    difference = one.diff(other)
    assert [c.parameter for c in difference] == ["0.bias", "1.weight"]
    assert "2 differ, 2 are the same" in str(difference)
    assert not one.diff(fanin.plan(net, recipe="xavier_normal", overrides={"0": "xavier_normal"}))
    shorter = fanin.plan(net[0:1], recipe="xavier_normal")
    assert [c.after for c in one.diff(shorter)] == [None, None]
    assert "not in it" in str(one.diff(shorter))
    assert str(one.diff(one)) == "no difference in 4 parameters"
