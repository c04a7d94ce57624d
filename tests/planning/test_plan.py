"""fanin.plan: what it accepts, what it decides without a graph, what it refuses."""

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError, SchemeError, UnknownNameError
from fanin.planning import Action, Assignment, Decision, Plan, Recipe
from fanin.schemes import Kaiming, Normal, Ones, Zeros


def small_net():
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=-1)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids))


def test_a_scheme_takes_layer_weights_and_nothing_else():
    plan = fanin.plan(small_net(), recipe="kaiming_normal")
    assert list(plan) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert plan["0.weight"].scheme == plan["3.weight"].scheme == Kaiming()
    assert plan["1.weight"].scheme == Ones()
    assert all(plan[n].scheme == Zeros() for n in ("0.bias", "1.bias", "3.bias"))
    assert plan["0.weight"].std == pytest.approx((2 / 6) ** 0.5)
    assert all(a.reason for a in plan.values())


@pytest.mark.parametrize(
    "recipe", ["normal_0.01", Normal(std=0.01), "Normal(std=0.01)"], ids=["name", "value", "text"]
)
def test_one_scheme_in_three_spellings(recipe):
    assert fanin.plan(small_net(), recipe=recipe)["0.weight"].scheme == Normal(std=0.01)


def test_planning_touches_no_value_and_no_generator():
    model = small_net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = torch.get_rng_state()
    fanin.plan(model, torch.randn(2, 6), "auto")
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    torch.set_rng_state(state)
    assert torch.equal(state, torch.get_rng_state())


def test_tied_weights_are_drawn_once_and_padding_rows_are_zero():
    plan = fanin.plan(Tied(), recipe="xavier_normal")
    assert plan["head.weight"].action is Action.TIED
    assert plan["head.weight"].tied_to == "table.weight"
    assert plan["table.weight"].zero_rows == (6,)
    assert plan["table.weight"].role == "tied embedding and head"
    # Six of seven rows are drawn with variance 2/(4 + 7).
    assert plan["table.weight"].std == pytest.approx((6 / 7 * 2 / 11) ** 0.5)


def test_tables_without_a_fan_get_a_unit_normal():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
    assert fanin.plan(model, recipe="orthogonal")["0.weight"].scheme == Normal(std=1.0)
    assert fanin.plan(model, recipe="kaiming_uniform")["0.weight"].scheme == Normal(std=1.0)
    assert fanin.plan(model, recipe="normal_0.02")["0.weight"].scheme == Normal(std=0.02)


def test_frozen_parameters_are_kept_unless_an_override_names_them():
    model = small_net()
    model[0].requires_grad_(False)
    plan = fanin.plan(model, recipe="zeros")
    assert plan["0.weight"].action is Action.KEEP
    assert "frozen" in plan["0.weight"].reason
    assert (
        fanin.plan(model, recipe="zeros", overrides={"0.weight": "ones"})["0.weight"].scheme
        == Ones()
    )


def test_a_model_that_is_all_frozen_is_told_so():
    model = small_net().requires_grad_(False)
    assert "every parameter is frozen" in fanin.plan(model, recipe="zeros").advice[0]


def test_integer_and_empty_parameters_are_left_with_the_reason():
    model = nn.Module()
    model.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    model.codes.requires_grad = False
    model.none = nn.Parameter(torch.empty(0, 4))
    plan = fanin.plan(model, recipe="ones")
    assert plan["codes"].action is Action.KEEP  # frozen as integers are
    assert plan["none"].action is Action.LEAVE
    assert "no elements" in plan["none"].reason
    with pytest.raises(PlanError, match="int8"):
        fanin.plan(model, recipe="ones", overrides={"codes": "ones"})


def test_a_parameter_of_unknown_use_is_left_and_said_so():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.randn(3, 3))

    plan = fanin.plan(Odd(), recipe="kaiming_normal")
    assert plan["scale"].action is Action.LEAVE
    assert "not known" in plan["scale"].reason


def test_a_recipe_value_of_the_users_own():
    mine = Recipe("mine", "", "", lambda s, c: Decision(Normal(std=0.5), "because"))
    plan = fanin.plan(small_net(), torch.zeros(1, 6), mine)
    assert plan.recipe == "mine"
    assert {a.reason for a in plan.values()} == {"because"}


def test_a_function_of_the_graph_names_what_it_wants():
    seen = {}

    def recipe(graph, roles):
        seen["operations"] = len(graph.operations)
        return {"0.weight": "ones", "3.weight": None, "0.bias": Zeros()}

    plan = fanin.plan(small_net(), torch.zeros(1, 6), recipe)
    assert seen["operations"] > 2
    assert plan["0.weight"].scheme == Ones()
    assert plan["3.weight"].action is Action.LEAVE
    assert plan["1.weight"].action is Action.LEAVE
    with pytest.raises(PlanError, match="takes a graph"):
        fanin.plan(small_net(), None, recipe)
    with pytest.raises(UnknownNameError, match=r"0\.weight"):
        fanin.plan(small_net(), torch.zeros(1, 6), lambda graph: {"0.wieght": "ones"})
    with pytest.raises(PlanError, match="returned a list"):
        fanin.plan(small_net(), torch.zeros(1, 6), lambda graph: [1])


def test_a_plan_is_a_recipe_too():
    first = fanin.plan(small_net(), recipe="xavier_normal")
    again = fanin.plan(small_net(), recipe=first, overrides={"3": "zeros"})
    assert again["0.weight"] == first["0.weight"]
    assert again["3.weight"].scheme == Zeros()


def test_a_plan_for_another_model_is_refused():
    plan = fanin.plan(small_net(), recipe="ones")
    with pytest.raises(PlanError, match=r"\(4, 6\) in the model and \(5, 6\) in the plan"):
        fanin.plan(nn.Sequential(nn.Linear(6, 4)), recipe=plan)
    foreign = Plan("x", "x", {"nope": Assignment("nope", Ones(), fanin.Axes(0), "", "")})
    with pytest.raises(PlanError, match="nope"):
        fanin.plan(small_net(), recipe=foreign)


@pytest.mark.parametrize("recipe", ["auto", "gpt2", "resnet"])
def test_recipes_that_read_the_graph_ask_for_inputs(recipe):
    with pytest.raises(PlanError, match="pass inputs"):
        fanin.plan(small_net(), recipe=recipe)


def test_wrong_arguments_are_told_in_one_line():
    with pytest.raises(UnknownNameError, match="kaiming_normal"):
        fanin.plan(small_net(), recipe="kaiming_norml")
    with pytest.raises(PlanError, match=r"not a torch\.nn\.Module"):
        fanin.plan(nn.Linear, recipe="zeros")
    with pytest.raises(PlanError, match="recipe is a int"):
        fanin.plan(small_net(), recipe=3)
    with pytest.raises(PlanError, match="Call the model once"):
        fanin.plan(nn.Sequential(nn.LazyLinear(3)), recipe="zeros")
    with pytest.raises(SchemeError):
        fanin.plan(small_net(), recipe=Normal(std=-1))


def test_a_scheme_that_cannot_draw_a_weight_names_it_and_the_way_out():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))  # more inputs than outputs
    with pytest.raises(PlanError, match=r"'1\.weight'.*overrides"):
        fanin.plan(model, recipe="delta_orthogonal", overrides={"0.weight": "zeros"})
    # An override, or keep, takes the weight from the scheme before it fails.
    fanin.plan(model, recipe="delta_orthogonal", overrides={"*.weight": "zeros"})
    fanin.plan(model, recipe="delta_orthogonal", keep=["0", "1"])


def test_every_recipe_is_documented():
    for name, recipe in fanin.RECIPES.items():
        assert recipe.name == name
        assert recipe.summary.endswith(".")
        assert len(recipe.docs) > 60
        assert recipe.paper or name in {"auto", "torch", "shipped"}
    assert next(iter(fanin.RECIPES)) == "auto"


def test_a_new_recipe_is_one_new_file(tmp_path, monkeypatch):
    from fanin.planning import recipes

    (tmp_path / "planted.py").write_text(
        "from fanin.planning.recipe import Recipe, leave\n"
        "RECIPE = Recipe('planted', 'Leaves.', '', lambda s, c: leave('left'))\n"
    )
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    assert "planted" in recipes._Recipes()


def test_reasons_say_no_more_than_was_seen():
    class Softplus(nn.Module):
        def forward(self, x):
            return nn.functional.softplus(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.never = nn.Linear(8, 8), nn.Linear(8, 8)
            self.under = nn.Linear(8, 8)
            nn.utils.parametrize.register_parametrization(self.under, "weight", Softplus())
            self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 8)
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            if x.mean() > 100:
                return self.never(x)
            x = self.under(torch.relu(self.used(x)))
            return x + self.out(torch.relu(self.inner(self.norm(x))))

    made = fanin.plan(Net(), torch.zeros(4, 8))
    assert made["never.weight"].reason == "1/fan_in (LeCun): what reads its output is not known"
    carrier = "under.parametrizations.weight.original"
    assert made[carrier].reason.endswith(
        "drawn under a parametrisation without right_inverse, so that the weight itself is another"
    )
    assert made["inner.weight"].evidence[0] == "reads a signal that no activation has bent: gain 1"
