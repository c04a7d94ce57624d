"""check itself: selection, what runs when, the diagnosis, bad input."""

import math

import pytest
import torch
from faulty_models import all_zeros, dead_relu, rare_targets, unused_layer
from healthy_models import cnn_with_batch_norm, gpt2, lstm, relu_mlp
from torch import nn

import fanin
from fanin.axes import Axes
from fanin.checking import RULES, Severity, UnhealthyStartError, check, find_rule
from fanin.checking.equality import equal_groups
from fanin.checking.predictions import predicted_rows
from fanin.checking.rules.dead_units import share_off_together
from fanin.errors import DataError, PlanError, RecordError, UnknownNameError
from fanin.planning.assignment import Action, Assignment, Plan
from fanin.schemes import Normal, Uniform, Zeros
from fanin.signals import Signals


def test_rules_are_chosen_by_code_name_or_prefix():
    model, x, y = relu_mlp()
    assert check(model, x, target=y).rules_run == tuple(
        code for code in RULES if not code.startswith("FAN5")
    )
    assert check(model, x, target=y, select="FAN4").rules_run == ("FAN401", "FAN402", "FAN403")
    assert check(model, x, select=["dead-units", "FAN201"]).rules_run == ("FAN109", "FAN201")
    without = check(model, x, target=y, ignore=["FAN1", "equal-units"]).rules_run
    assert "FAN201" not in without
    assert "FAN101" not in without
    assert "FAN301" in without


@pytest.mark.parametrize("field", ["select", "ignore"])
def test_an_unknown_rule_names_the_nearest(field):
    with pytest.raises(UnknownNameError, match="vanishing-activations"):
        check(nn.Linear(2, 2), **{field: ["vanishing-activation"]})
    with pytest.raises(UnknownNameError, match="FAN101"):
        find_rule("FAN1011")


def test_what_runs_depends_on_what_is_given():
    model, x, y = relu_mlp()
    assert set(check(model).rules_run) == {
        "FAN106",
        "FAN201",
        "FAN203",
        "FAN304",
        "FAN305",
        "FAN306",
    }
    assert "FAN401" not in check(model, x).rules_run
    assert "FAN401" in check(model, x, target=y).rules_run
    assert "FAN501" in check(model, plan=Plan("none", "Sequential")).rules_run


def test_bad_arguments():
    with pytest.raises(DataError, match="no inputs"):
        check(nn.Linear(2, 2), target=torch.zeros(1))
    with pytest.raises(RecordError, match="not a torch"):
        check(lambda x: x, torch.zeros(1))
    with pytest.raises(DataError, match="NaN"):
        check(nn.Linear(2, 2), torch.full((3, 2), float("nan")))


def test_assert_ok_raises_an_assertion_that_lists_the_findings():
    model, x, y = dead_relu()
    diagnosis = check(model, x, target=y)
    assert not diagnosis.ok
    with pytest.raises(UnhealthyStartError, match="FAN109 error 2") as caught:
        diagnosis.assert_ok()
    assert isinstance(caught.value, AssertionError)
    assert "fanin.initialize" in str(caught.value)
    healthy = check(*relu_mlp()[:2])
    healthy.assert_ok()


def test_notes_do_not_count():
    model, x, y = unused_layer()
    diagnosis = check(model, x, target=y)
    assert [f.severity for f in diagnosis.findings] == [Severity.NOTE]
    assert diagnosis.ok


def test_findings_come_worst_first():
    model, x, y = all_zeros()
    order = [Severity.ERROR, Severity.WARNING, Severity.NOTE]
    ranks = [order.index(f.severity) for f in check(model, x, target=y).findings]
    assert ranks == sorted(ranks)


def test_the_text_is_a_plain_table():
    model, x, y = dead_relu()
    text = str(check(model, x, target=y))
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["weight", "shape", "fan"]
    assert lines[1].startswith("0.weight")
    assert "FAN109 error dead-units at 2.weight" in text
    assert "not ok" in lines[-1]
    assert max(len(line) for line in lines[:5]) < 120


def test_predictions_stand_beside_what_was_measured():
    model, x, y = relu_mlp()
    diagnosis = check(model, x, target=y)
    assert diagnosis.predicted.source == "predicted"
    heads, first = (line.split() for line in str(diagnosis).splitlines()[:2])
    assert heads.count("predicted") == 2
    told = predicted_rows(diagnosis.signals, diagnosis.predicted)
    for row in diagnosis.layers:
        # Eight layers of width 64: log RMS wanders by √(5·8/64)/2 = 0.4 over draws of weights.
        assert 0.3 < told[row.weight].output_rms / row.output_rms < 3
        # In the size of the loss's own gradients, which a prediction does not know.
        assert 0.3 < told[row.weight].gradient_rms / row.gradient_rms < 3
    assert f"{told[first[0]].output_rms:.3g}" in first


def test_single_rules_are_not_made_to_wait_for_predictions():
    model, x, _ = relu_mlp()
    assert check(model, x, select="FAN201").predicted is None
    assert check(model, x, predict=False).predicted is None


@pytest.mark.parametrize(
    "place",
    ["fanin.checking.examine.predict_from", "fanin.propagation.tracing.Tracer._see"],
    ids=["behind the run", "during the run"],
)
def test_a_prediction_that_fails_is_a_note_unless_it_was_asked_for(monkeypatch, place):
    model, x, _ = relu_mlp()

    def broken(*_):
        raise ArithmeticError("no such moment")

    monkeypatch.setattr(place, broken)
    diagnosis = check(model, x)
    assert diagnosis.predicted is None
    assert "no predictions: ArithmeticError: no such moment" in diagnosis.signals.notes
    with pytest.raises(ArithmeticError):
        check(model, x, predict=True)


def test_a_forget_bias_of_one_is_left_alone():
    model, x, y = lstm()
    fanin.initialize(model, x, "lstm")
    assert not check(model, x, target=y, select="FAN306").findings


def test_a_bias_that_knows_the_priors_is_left_alone():
    model, x, target = rare_targets()
    assert [f.rule for f in check(model, x, target=target).findings] == ["FAN403"]
    share = 3 / 256
    nn.init.constant_(model[-1].bias, math.log(share / (1 - share)))
    assert not check(model, x, target=target).findings


def test_long_models_are_folded():
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(100)])
    assert "… 60 more" in str(check(model, torch.randn(8, 4)))


def test_a_diagnosis_prints_without_a_run():
    assert "ok" in str(check(nn.Linear(2, 2)))


def test_the_model_is_left_as_it_was():
    model, x, y = cnn_with_batch_norm()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state()
    check(model, x, target=y)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_equal_groups_are_exact():
    rows = torch.randn(50, 7)
    rows[10] = rows[3]
    rows[30] = rows[3]
    rows[20] = rows[5]
    rows[21] = rows[5] + torch.finfo(torch.float32).eps * rows[5]
    assert equal_groups(rows) == [[3, 10, 30], [5, 20]]
    assert equal_groups(torch.zeros(3, 2)) == [[0, 1, 2]]
    assert equal_groups(torch.randn(100, 3)) == []


def test_the_share_of_units_off_together_by_simulation():
    generator = torch.Generator().manual_seed(0)
    c, samples, units = 0.95, 256, 4000
    common = torch.randn(units, 1, generator=generator)
    own = torch.randn(units, samples, generator=generator)
    off = (c**0.5 * common + (1 - c) ** 0.5 * own < 0).all(1).float().mean().item()
    # The maximum of 256 normal numbers varies by 0.4 around the quantile that the formula takes.
    assert share_off_together(c, samples) == pytest.approx(off, abs=0.03)


class TestPlanMismatch:
    def plan(self, model, **schemes):
        assignments = {
            name: Assignment(
                name,
                schemes.get(name.replace(".", "_")),
                Axes(0, 1) if p.dim() == 2 else Axes(0),
                "weight",
                "by hand",
                shape=tuple(p.shape),
                action=Action.INITIALISE if name.replace(".", "_") in schemes else Action.LEAVE,
            )
            for name, p in model.named_parameters()
        }
        return Plan("by hand", "Linear", assignments)

    def found(self, model, **schemes):
        return check(model, plan=self.plan(model, **schemes), select="FAN501").findings

    def test_what_was_drawn_as_planned_passes(self):
        for seed in range(20):
            torch.manual_seed(seed)
            model = nn.Linear(50, 40)
            nn.init.normal_(model.weight, std=0.02)
            nn.init.zeros_(model.bias)
            assert not self.found(model, weight=Normal(std=0.02), bias=Zeros())

    @pytest.mark.parametrize("factor", [0.8, 1.25, 5.0])
    def test_a_lost_factor_is_found(self, factor):
        torch.manual_seed(0)
        model = nn.Linear(50, 40)
        nn.init.normal_(model.weight, std=0.02 * factor)
        (finding,) = self.found(model, weight=Normal(std=0.02))
        assert finding.where == "weight"
        assert finding.severity is Severity.ERROR
        assert finding.measured["planned_std"] == pytest.approx(0.02)

    def test_zeros_must_be_exact(self):
        model = nn.Linear(4, 4)
        nn.init.constant_(model.bias, 1e-4)
        assert [f.where for f in self.found(model, bias=Zeros())] == ["bias"]

    def test_bounds_must_hold(self):
        model = nn.Linear(50, 40)
        with torch.no_grad():
            model.weight.uniform_(-1, 1)
            model.weight[0, 0] = 1.5
        (finding,) = self.found(model, weight=Uniform(-1, 1))
        assert "bounds" in finding.message

    def test_a_row_that_the_plan_zeroes(self):
        model = nn.Embedding(500, 40)
        torch.manual_seed(0)
        nn.init.normal_(model.weight, std=0.02)
        assignment = Assignment(
            "weight",
            Normal(std=0.02),
            Axes(0, 1),
            "embedding",
            "by hand",
            shape=(500, 40),
            zero_rows=(3,),
        )
        plan = Plan("by hand", "Embedding", {"weight": assignment})
        (finding,) = check(model, plan=plan, select="FAN501").findings
        assert "row 3" in finding.message

    def test_a_plan_for_another_model_is_wrong_use(self):
        plan = self.plan(nn.Linear(4, 4), weight=Normal(std=1.0))
        with pytest.raises(PlanError, match="does not have"):
            check(nn.Sequential(nn.Linear(4, 4)), plan=plan, select="FAN501")

    def test_the_lost_residual_scaling_of_gpt2_is_found(self):
        pytest.importorskip("transformers")
        model, inputs, _ = gpt2()
        plan = fanin.plan(model, inputs, "gpt2")
        fanin.apply(plan, model)
        assert not check(model, plan=plan).findings
        for name, parameter in model.named_parameters():
            if name.endswith("mlp.c_proj.weight"):
                nn.init.normal_(parameter, std=0.02)  # the depth factor forgotten
        found = check(model, plan=plan, select="FAN501").findings
        assert [f.where for f in found] == [
            f"transformer.h.{i}.mlp.c_proj.weight" for i in range(4)
        ]


def test_signals_of_a_prediction_have_the_same_type():
    assert Signals("predicted", {}, ()).parameters == {}


def counted(model):
    """The model, and a list that grows by one at each run of it."""
    runs = []
    model.register_forward_pre_hook(lambda *_: runs.append(1))
    return runs


def test_what_is_measured_and_what_is_predicted_come_from_one_run():
    model, x, y = relu_mlp()
    runs = counted(model)
    diagnosis = check(model, x, target=y, ignore=["FAN105", "FAN201", "FAN202"])
    assert len(runs) == 1
    alone = fanin.predict(model, x)
    assert diagnosis.predicted.tensors == alone.tensors
    assert diagnosis.predicted.layers == alone.layers


def test_weights_that_are_not_finite_are_not_predicted_from():
    model, x, y = relu_mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    diagnosis = check(model, x, target=y)
    assert diagnosis.predicted is None
    assert "no predictions: '0.weight' holds NaN or infinity" in diagnosis.signals.notes


@pytest.mark.parametrize(
    "compiler", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(4, 8))]
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_models_are_planned_initialised_and_checked(compiler):
    net = compiler(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    x = torch.randn(4, 8)
    ledger = fanin.initialize(net, x)
    assert ledger["0.weight"].status == "initialised"
    assert check(net, x, target=torch.arange(4) % 2).signals.layers[0].activation == "relu"
