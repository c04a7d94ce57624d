"""What every recipe that measures must do: leave the model alone, and end in a plan like any."""

import copy

import pytest
import torch
from observed_layers import Residual, labels, numbers
from torch import nn

import fanin
from fanin.errors import DataError, PlanError, RecordError
from fanin.planning import compare_with_tensors
from fanin.recipes import LSUV, RECIPES, DataRecipe, GradInit, MetaInit, WeightNorm
from fanin.schemes import Scaled


class Net(nn.Module):
    """A convolution, a norm with statistics, dropout, a tied pair, a residual, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.1)
        self.mix = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.mix.weight
        self.head = nn.Linear(6, 3)
        self.raises: type[BaseException] | None = None
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.raises is not None and self.calls > 2:
            raise self.raises("on purpose")
        x = torch.tanh(self.norm(self.conv(x))).mean((2, 3))
        x = x + torch.tanh(self.mix(self.drop(x)))
        return self.head(x + torch.tanh(self.tied(x)))


X, Y = 2 * numbers(24, 2, 6, 6), labels(24, 3)
RECIPES_HERE: dict[str, DataRecipe] = {
    "lsuv": LSUV(),
    "weight_norm": WeightNorm(),
    "metainit": MetaInit(steps=4),
    "gradinit": GradInit(target=Y, steps=4),
}
each_recipe = pytest.mark.parametrize("recipe", RECIPES_HERE.values(), ids=RECIPES_HERE)


def snapshot(model: nn.Module) -> dict[str, object]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: (t, t.detach().clone(), t._version, t.requires_grad) for name, t in tensors}


def assert_untouched(model: nn.Module, before: dict[str, object]) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        same, values, version, requires_grad = before[name]
        assert tensor is same, name
        assert torch.equal(tensor, values), name
        if isinstance(tensor, nn.Parameter):  # statistics of norms are put back by a write
            assert tensor._version == version, name
        assert tensor.requires_grad == requires_grad, name
        assert tensor.grad is None


def test_this_module_knows_all_of_them():
    assert {n for n, r in RECIPES.items() if isinstance(r, DataRecipe)} == set(RECIPES_HERE)
    assert fanin.recipes.RECIPES is fanin.RECIPES


@each_recipe
def test_planning_leaves_the_model_as_it_was(recipe):
    model = Net()
    model.head.weight.requires_grad_(False)
    before, modes = snapshot(model), [m.training for m in model.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    plan = fanin.plan(model, X, recipe)
    assert torch.equal(torch.get_rng_state(), state)
    assert_untouched(model, before)
    assert [m.training for m in model.modules()] == modes
    assert model.calls == 0
    assert any(isinstance(a.scheme, Scaled) for a in plan.values())


@each_recipe
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError], ids=lambda e: e.__name__)
def test_an_interruption_leaves_the_model_as_it_was(recipe, error, monkeypatch):
    model = Net()
    before = snapshot(model)
    count = []

    def interrupted(module, inputs, output):
        count.append(1)
        if len(count) == 3:  # in the midst of measuring: after planning and one run of its own
            raise error("on purpose")

    handle = model.mix.register_forward_hook(interrupted)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else RecordError):
        fanin.initialize(model, X, recipe)
    handle.remove()
    assert len(count) == 3
    assert_untouched(model, before)
    assert model.mix.weight is model.tied.weight


@each_recipe
def test_frozen_kept_and_overridden_tensors_are_never_scaled(recipe):
    model = Net()
    model.conv.weight.requires_grad_(False)
    model.norm.weight.requires_grad_(False)
    before = {n: t.detach().clone() for n, t in model.state_dict().items()}
    overrides = {"mix.bias": "normal_0.1"}
    ledger = fanin.initialize(model, X, recipe, keep=["head"], overrides=overrides)
    for name in ("conv.weight", "norm.weight", "head.weight", "head.bias", "norm.running_mean"):
        assert torch.equal(model.state_dict()[name], before[name]), name
    assert {ledger[n].status.value for n in ("conv.weight", "head.weight")} == {"kept"}
    assert ledger["mix.bias"].reason == "your override for 'mix.bias'"
    assert not isinstance(ledger["mix.bias"].scheme, Scaled)
    assert not torch.equal(model.mix.weight, before["mix.weight"])


@each_recipe
def test_a_saved_plan_gives_the_same_bytes_without_data(recipe, tmp_path):
    model, again = Net(), Net()
    plan = fanin.plan(model, X, recipe, seed=7)
    ledger = fanin.apply(plan, model, seed=7)
    plan.save(tmp_path / "plan.yaml")
    loaded = fanin.Plan.load(tmp_path / "plan.yaml")
    assert loaded == plan
    other = fanin.apply(loaded, again, seed=7)
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, again.get_parameter(name)), name
    assert {n: e.digest for n, e in ledger.items() if "weight" in n} == {
        n: e.digest for n, e in other.items() if "weight" in n
    }
    straight = Net()
    fanin.initialize(straight, X, recipe, seed=7)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), straight.parameters(), strict=True)
    )
    assert "seed 7" in plan.advice[-1]


@each_recipe
def test_the_numbers_of_the_seed_are_measured(recipe):
    first, second = (fanin.plan(Net(), X, recipe, seed=0) for _ in range(2))
    assert first == second
    assert first != fanin.plan(Net(), X, recipe, seed=1)


@each_recipe
def test_the_model_is_what_its_plan_says(recipe):
    model = Residual(64, 3)
    x, y = numbers(48, 64), labels(48, 5)
    recipe = recipe if not isinstance(recipe, GradInit) else GradInit(target=y, steps=4)
    plan = fanin.plan(model, x, recipe)
    ledger = fanin.apply(plan, model)
    assert compare_with_tensors(plan, model) == []
    for name, entry in ledger.items():
        assert entry.std == pytest.approx(entry.expected_std, rel=0.1, abs=1e-7), name
    assert fanin.predict(model, x, plan).layers
    text = str(plan) + str(ledger)
    assert " × " in text
    assert max(map(len, text.splitlines())) < 250


@each_recipe
def test_bad_batches_and_models(recipe):
    with pytest.raises(PlanError, match="measures on a batch"):
        fanin.plan(Net(), recipe=recipe)
    with torch.device("meta"):
        on_meta = Net()
    with pytest.raises(PlanError, match="to_empty"):
        fanin.plan(on_meta, X, recipe)
    x = X.clone()
    x[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="NaN"):
        fanin.plan(Net(), x, recipe)
    with pytest.raises(RecordError, match=r"Net.forward"):
        fanin.plan(Net(), X[:, :1], recipe)


@each_recipe
def test_nothing_free_is_nothing_done(recipe):
    model = Net().requires_grad_(False)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    fanin.initialize(model, X, recipe)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert len(fanin.plan(nn.Identity(), X, recipe)) == 0


@each_recipe
def test_half_precision_and_inference_mode(recipe):
    wide, half = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)), None
    half = copy.deepcopy(wide).to(torch.bfloat16)
    x = numbers(24, 8).to(torch.bfloat16)
    plan = fanin.plan(half, x, recipe)
    assert [a.scheme for a in plan.values()] == [
        a.scheme for a in fanin.plan(wide, x.float(), recipe).values()
    ]
    with torch.inference_mode():
        assert fanin.plan(wide, x.float(), recipe)["0.weight"] == plan["0.weight"]
    fanin.apply(plan, half)
    fanin.apply(plan, wide)
    for a, b in zip(half.parameters(), wide.parameters(), strict=True):
        assert torch.equal(a, b.to(torch.bfloat16))  # rounded once


def test_settings_are_told():
    assert repr(LSUV()) == "LSUV()"
    assert repr(LSUV(tries=3)) == "LSUV(tries=3)"
    assert repr(GradInit(target=Y, steps=3)) == "GradInit(steps=3)"
    assert LSUV() == LSUV()
    assert fanin.plan(Net(), X, "lsuv").recipe == "lsuv"
    assert fanin.plan(Net(), X, LSUV(tries=3)).recipe == "LSUV(tries=3)"


def test_adopting_loads_first():
    model = Net()
    state = {n: t for n, t in Net().state_dict().items() if not n.startswith("head")}
    with pytest.raises(PlanError, match="load with"):
        fanin.adopt(model, state, X, recipe="lsuv")
    fanin.adopt(model, state, recipe="shipped")
    ledger = fanin.initialize(model, X, "lsuv", keep=state)
    assert torch.equal(model.conv.weight, state["conv.weight"])
    assert isinstance(ledger["head.weight"].scheme, Scaled)


def test_a_study_gives_them_its_targets(tmp_path):
    x, y = numbers(160, 8), labels(160, 3)

    def build():
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))

    recipes = ["lsuv", "weight_norm", MetaInit(steps=2), GradInit(steps=2)]
    study = fanin.compare(
        build, (x, y), recipes, seeds=2, steps=3, learning_rates=[0.1, 0.01], out=tmp_path,
        batch_size=32, progress=False,
    )  # fmt: skip
    assert len(study.trials) == 16
    assert {t.recipe for t in study.trials} == {
        "lsuv", "weight_norm", "MetaInit(steps=2)", "GradInit(steps=2)",
    }  # fmt: skip
    values = fanin.compare(
        lambda: nn.Linear(8, 1), (x, x[:, :1]), [MetaInit(steps=2), "gradinit"], seeds=1, steps=3,
        learning_rates=0.1, out=tmp_path / "values", progress=False,
    )  # fmt: skip
    assert len(values.trials) == 2
