"""The ledger: every tensor, measured as it was written."""

import copy
import math
import pickle
from hashlib import blake2b

import pytest
import torch
from torch import nn

import fanin
from fanin.filling import Status, digest_of, fold_ledger
from fanin.filling.statistics import measure_tensor


def net():
    return nn.Sequential(nn.Embedding(50, 9, padding_idx=4), nn.LSTM(9, 8), nn.BatchNorm1d(8))


def test_every_parameter_and_buffer_has_a_line():
    model = net()
    ledger = fanin.initialize(model, recipe="xavier_normal")
    names = [n for n, _ in model.named_parameters()] + [n for n, _ in model.named_buffers()]
    assert list(ledger) == names
    assert all(entry.reason and entry.digest for entry in ledger.values())
    assert ledger.with_status("left") == (
        "2.running_mean",
        "2.running_var",
        "2.num_batches_tracked",
    )


@pytest.mark.parametrize(
    "recipe", ["xavier_normal", "torch", "orthogonal", "lstm", "trunc_normal_2"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_measured_values_are_those_of_the_tensors(recipe, dtype):
    model = net().to(dtype)
    ledger = fanin.initialize(model, recipe=recipe, seed=3)
    for name, tensor in model.named_parameters():
        data = tensor.detach().double()
        assert ledger[name].mean == pytest.approx(float(data.mean()), abs=1e-12), name
        assert ledger[name].std == pytest.approx(float(data.std(correction=0)), abs=1e-12), name
        assert ledger[name].digest == digest_of(tensor), name


def test_they_describe_what_was_written_also_after_training():
    model = net()
    ledger = fanin.initialize(model, recipe="normal_0.1", keep=["2"])
    first = {n: t.detach().clone() for n, t in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    for name, tensor in first.items():
        assert ledger[name].digest == digest_of(tensor)


def test_large_tensors_are_measured_in_pieces():
    model = nn.Linear(1100, 2000)  # more than two pieces of 4 MiB
    ledger = fanin.initialize(model, recipe="normal_0.1")
    assert ledger["weight"].digest == digest_of(model.weight)
    assert ledger["weight"].mean == pytest.approx(
        model.weight.detach().double().mean().item(), abs=1e-12
    )
    # Pieces of very different means: their spread counts too.
    trend = torch.linspace(-1, 1, 3_000_000)
    assert measure_tensor(trend).std == pytest.approx(1 / 3**0.5, rel=1e-5)
    strided = model.weight.detach().t().contiguous().t()
    assert digest_of(strided) == digest_of(model.weight)


def test_the_digest_is_what_its_documentation_says():
    tensor = torch.arange(6, dtype=torch.int16).reshape(2, 3)
    inner = blake2b(tensor.numpy().tobytes(), digest_size=16).digest()
    assert digest_of(tensor) == blake2b(b"int16[2, 3]" + inner, digest_size=16).hexdigest()
    others = [tensor.flatten(), tensor.int(), tensor + 1, tensor.flip(0)]
    assert len({digest_of(t) for t in [tensor, *others]}) == 5
    assert digest_of(torch.zeros(2)) != digest_of(-torch.zeros(2))


@pytest.mark.parametrize(
    "tensor",
    [torch.empty(0, 3), torch.tensor(True), torch.arange(3), torch.zeros(2, dtype=torch.cfloat)],
    ids=["empty", "bool", "int", "complex"],
)
def test_tensors_without_a_mean(tensor):
    found = measure_tensor(tensor)
    assert found.mean is found.std is None
    assert len(found.digest) == 32


def test_a_large_mean_costs_no_digits():
    tensor = 1e6 + torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    before = tensor.clone()
    assert measure_tensor(tensor).std == pytest.approx(float(before.std(correction=0)), rel=1e-9)
    assert torch.equal(tensor, before)  # float64 is measured without a copy: it must stay
    assert measure_tensor(torch.full((70_000,), 0.1)).std == 0.0


def test_nan_is_measured_as_nan():
    for odd in (float("nan"), float("inf")):
        for place in (0, 40_000):
            tensor = torch.zeros(50_000)
            tensor[place] = odd
            found = measure_tensor(tensor)
            assert not math.isfinite(found.mean)
            assert not math.isfinite(found.std)
    assert measure_tensor(torch.tensor([1.0, float("nan")])).mean != 1.0


def test_tied_names_share_the_measurement():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    ledger = fanin.initialize(model, recipe="normal_1")
    assert ledger["b.weight"].status is Status.TIED
    assert ledger["b.weight"].digest == ledger["a.weight"].digest
    assert "a.weight" in ledger["b.weight"].reason


def test_copies_and_pickles_carry_the_values():
    ledger = fanin.initialize(nn.Linear(4, 4), recipe="normal_1")
    again = pickle.loads(pickle.dumps(ledger))
    assert again == ledger
    assert copy.deepcopy(ledger)["weight"].digest == ledger["weight"].digest
    assert again["weight"].to_json()["std"] == ledger["weight"].std
    with pytest.raises(AttributeError):
        ledger["weight"].nonsense  # noqa: B018


def test_the_table_folds_repeated_blocks():
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(4, 4) for _ in range(40))})
    ledger = fanin.initialize(model, recipe="kaiming_normal")
    rows = {row.name: len(row.entries) for row in fold_ledger(ledger)}
    assert rows == {"layers.*.weight": 40, "layers.*.bias": 40}
    text = str(ledger)
    assert "80 initialised" in text
    assert "×40" in text
    assert len(text.splitlines()) == 5
