"""overrides and keep: what a key stands for, and what an unmatched one says."""

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError, UnknownNameError
from fanin.planning import Action
from fanin.schemes import Normal, Ones, Zeros


def model():
    blocks = nn.ModuleList(
        nn.ModuleDict({"norm": nn.LayerNorm(4), "fc": nn.Linear(4, 4)}) for _ in range(3)
    )
    return nn.ModuleDict({"blocks": blocks, "head": nn.Linear(4, 2)})


def plan(**arguments):
    return fanin.plan(model(), recipe="xavier_normal", **arguments)


def changed(made):
    base = plan()
    return {n for n, a in made.items() if (a.scheme, a.action) != (base[n].scheme, base[n].action)}


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("head.weight", {"head.weight"}),
        ("blocks.*.fc.weight", {f"blocks.{i}.fc.weight" for i in range(3)}),
        ("blocks.[02].fc.*", {f"blocks.{i}.fc.{n}" for i in (0, 2) for n in ("weight", "bias")}),
        ("head", {"head.weight"}),
        ("blocks.1", {"blocks.1.norm.weight", "blocks.1.fc.weight"}),
        (nn.LayerNorm, {f"blocks.{i}.norm.weight" for i in range(3)}),
        (
            nn.Linear,
            {"head.weight", *(f"blocks.{i}.fc.weight" for i in range(3))},
        ),
    ],
    # A set prints in another order in every process, and workers must agree on names.
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_a_key_stands_for(key, names):
    made = plan(overrides={key: Normal(std=0.3)})
    assert changed(made) == names
    assert all(made[n].scheme == Normal(std=0.3) for n in names)
    assert all("your override" in made[n].reason and made[n].std == 0.3 for n in names)


def test_none_keeps_everything_below_a_module():
    assert changed(plan(overrides={"head": None})) == {"head.weight", "head.bias"}
    assert plan(overrides={"head": None})["head.bias"].action is Action.KEEP


def test_later_keys_win():
    made = plan(overrides={"blocks.*.weight": "zeros", "blocks.0.fc.weight": "ones"})
    assert made["blocks.0.fc.weight"].scheme == Ones()
    assert made["blocks.1.fc.weight"].scheme == Zeros()


@pytest.mark.parametrize("key", ["haed.weight", "bloks.*", nn.Conv2d], ids=str)
def test_an_unmatched_key_names_the_nearest(key):
    nearest = {"haed.weight": "head.weight", "bloks.*": "blocks"}.get(key, "Conv2d")
    with pytest.raises(UnknownNameError, match=nearest):
        plan(overrides={key: "zeros"})


def test_values_that_are_no_scheme():
    with pytest.raises(UnknownNameError, match="zeros"):
        plan(overrides={"head": "zeroes"})
    with pytest.raises(PlanError, match="no scheme"):
        plan(overrides={"head": [1]})
    with pytest.raises(PlanError, match=r"blocks\.0\.norm\.weight.*cannot draw"):
        plan(overrides={"blocks.*": "xavier_normal"})
    with pytest.raises(PlanError, match="neither a name pattern nor a module type"):
        plan(overrides={3: "zeros"})


def test_a_tied_name_stands_for_the_tensor():
    net = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    net["b"].weight = net["a"].weight
    made = fanin.plan(net, recipe="ones", overrides={"b.weight": "zeros"})
    assert made["a.weight"].scheme == Zeros()


def test_keep_by_name_pattern_and_module():
    assert changed(plan(keep=["head"])) == {"head.weight", "head.bias"}
    assert changed(plan(keep="head.weight")) == {"head.weight"}
    assert changed(plan(keep=["*.bias"])) == {
        "head.bias",
        *(f"blocks.{i}.fc.bias" for i in range(3)),
    } | {f"blocks.{i}.norm.bias" for i in range(3)}
    with pytest.raises(UnknownNameError, match=r"head\.weight"):
        plan(keep=["head.wight"])


def test_keep_a_state_dict_and_its_keys():
    state = {"head.weight": torch.zeros(2, 4), "elsewhere": torch.zeros(1)}
    for keep in (state, state.keys()):
        made = plan(keep=keep)
        assert changed(made) == {"head.weight"}
        assert "elsewhere" in made.advice[0]
    with pytest.raises(UnknownNameError):
        plan(keep={"elsewhere": torch.zeros(1)})
    assert changed(plan(keep={})) == set()


def test_keep_wins_over_overrides():
    assert plan(overrides={"head": "zeros"}, keep=["head"])["head.weight"].action is Action.KEEP


def test_buffers_can_be_named_in_keep():
    net = nn.Sequential(nn.BatchNorm1d(3))
    made = fanin.plan(net, recipe="ones", keep=net.state_dict())
    assert all(a.action is Action.KEEP for a in made.values())


def test_an_effective_weight_can_be_named():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    made = fanin.plan(net, recipe="ones", overrides={"0.weight": "zeros"})
    assert made["0.parametrizations.weight.original1"].scheme == Zeros()
    kept = fanin.plan(net, recipe="ones", keep=["0.weight"])
    assert {a.action for n, a in kept.items() if "param" in n} == {Action.KEEP}
