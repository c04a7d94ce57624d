"""The chain of reasons for one parameter, its numbers against hand calculation."""

import math

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import UnknownNameError
from fanin.planning.explaining import explain


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(400, 900), nn.GELU(), nn.Linear(900, 10))


def test_every_number_is_that_of_the_formula():
    (why,) = explain(net(), torch.randn(64, 400), "0.weight", "kaiming_normal")
    steps = dict(why.steps)
    assert "fan_in 400, fan_out 900" in steps["fans"]
    # E[gelu(z)²] = 0.4252, gain 1.5335, χ1 1.072, Q′ 1.144 at z ~ N(0, 1).
    for number in ("0.4252", "1.534", "1.072", "1.144"):
        assert number in steps["meets"]
    assert steps["std"].startswith(f"{math.sqrt(2 / 400):.4g} = 1.414 · fan_in^(−½)")
    # He doubles the variance: RMS √2 in front of gelu, from inputs of RMS 1.
    told = float(steps["predicted"].split("gives RMS ")[1].split(",")[0])
    assert told == pytest.approx(math.sqrt(2), rel=0.02)
    assert why.beside["xavier_normal"] == pytest.approx(math.sqrt(2 / 1300))
    assert why.beside["torch"] == pytest.approx(math.sqrt(1 / 1200))
    assert why.beside["as it stands"] == pytest.approx(math.sqrt(1 / 1200), rel=0.01)


def test_predictions_are_those_that_a_run_gives():
    model, x = net(), torch.randn(512, 400)
    (why,) = explain(model, x, "0.weight")
    fanin.initialize(model, x)
    rms = model[0](x).square().mean().sqrt()
    told = float(dict(why.steps)["predicted"].split("gives RMS ")[1].split(",")[0])
    assert told == pytest.approx(rms.item(), rel=0.02)


def test_what_a_layer_reads_stands_before_what_it_gives():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(400, 900), nn.ReLU(), nn.Unflatten(1, (2, 450)), nn.Linear(450, 400)
    )
    (why,) = explain(model, torch.randn(64, 400), "3.weight", "lecun_normal")
    # Var 1/fan_in keeps RMS; behind a ReLU that is √½ of 1.
    assert dict(why.steps)["predicted"].startswith("reads RMS 0.70")
    assert "gives RMS 0.70" in dict(why.steps)["predicted"]
    (why,) = explain(model, torch.randn(64, 400), "3.weight", fanin.schemes.VarianceScaling(4.0))
    numbers = [float(part.split()[-1]) for part in dict(why.steps)["predicted"].split(", ")[:2]]
    assert numbers[1] == pytest.approx(2 * numbers[0], rel=0.01)


def test_packed_matrices_have_fans_of_their_own():
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    x = torch.randn(2, 6, 64)
    (why,) = explain(model, x, "self_attn.in_proj_weight")
    assert "fan_in 64, fan_out 64 for each of 3 matrices" in dict(why.steps)["fans"]


def test_a_module_means_all_of_its_parameters():
    found = explain(net(), torch.randn(8, 400), "2")
    assert [why.assignment.parameter for why in found] == ["2.weight", "2.bias"]
    assert "decided" in dict(found[1].steps)


def test_a_tied_weight_is_explained_by_the_one_drawn():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.table(ids))

    (why,) = explain(Tied(), torch.randint(50, (4, 8)), "head.weight")
    assert "tied to table.weight" in str(why)
    assert "tied embedding" in dict(why.steps)["what it is"]


def test_without_inputs_there_are_no_predictions():
    (why,) = explain(net(), None, "0.weight", "xavier_normal")
    assert "predicted" not in dict(why.steps)


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"0\.weight"):
        explain(net(), torch.randn(8, 400), "0.weigth")


def test_the_model_is_as_before():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    explain(model, torch.randn(8, 400), "0")
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_the_model_runs_once():
    net, runs = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), []
    net.register_forward_pre_hook(lambda *_: runs.append(1))
    explain(net, torch.randn(4, 8), "0.weight")
    assert len(runs) == 1
