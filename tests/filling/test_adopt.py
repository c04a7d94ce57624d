"""adopt: load what fits, initialise only the rest, change the model wholly or not at all."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fanin
from fanin.errors import CheckpointError, PlanError
from fanin.filling import digest_of
from fanin.schemes import Zeros


def net(classes=3, width=4):
    return nn.Sequential(
        nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes)
    )


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
NAMES = list(net().state_dict())


def trained(seed=0, **sizes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = net(**sizes)
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
        model[1].num_batches_tracked.fill_(7)
    return model


def equal(model, state):
    return all(torch.equal(t, state[n]) for n, t in model.state_dict().items())


def write(path, state, form):
    if form == "state dict":
        return state
    if form == "safetensors":
        save_file(state, path / "model.safetensors")
        return path / "model.safetensors"
    if form == "sharded":
        names = list(state)
        parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
        for file, held in parts.items():
            save_file({n: state[n] for n in held}, path / file)
        index = {"weight_map": {n: file for file, held in parts.items() for n in held}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
        return path / "model.safetensors.index.json"
    if form == "folder":
        write(path, state, "sharded")
        return path
    file = path / "model.pt"
    if form == "nested":
        torch.save({"epoch": 3, "model": state, "optimizer": {"state": {0: {"x": X}}}}, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form != "legacy")
    return str(file)


FORMS = ["state dict", "safetensors", "sharded", "folder", "pt", "legacy", "nested"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_a_whole_model_is_resumed_without_inputs(tmp_path, form, place):
    state = trained().state_dict()
    with torch.device(place):
        model = net()
    identities = [id(p) for p in model.parameters()]
    ledger = fanin.adopt(model, write(tmp_path, state, form))
    assert equal(model, state)
    assert {entry.status.value for entry in ledger.values()} == {"loaded"}
    assert list(ledger) == [*dict(model.named_parameters()), *dict(model.named_buffers())]
    assert [id(p) for p in model.parameters()] == identities
    assert ledger["1.running_var"].digest == digest_of(state["1.running_var"])
    # Again on top: nothing changes.
    fanin.adopt(model, write(tmp_path, state, form))
    assert equal(model, state)


@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_a_new_head_is_all_that_is_initialised(tmp_path, form):
    state = trained().state_dict()
    model = net(classes=9)
    ledger = fanin.adopt(model, write(tmp_path, state, form), X, seed=4)
    assert ledger.with_status("initialised") == ("3.weight", "3.bias")
    assert "(3, 4) in the checkpoint, (9, 4) here" in ledger["3.weight"].reason
    body = {n: t for n, t in state.items() if not n.startswith("3.")}
    assert all(torch.equal(model.state_dict()[n], t) for n, t in body.items())
    other = net(classes=9)
    fanin.initialize(other, X, "auto", seed=4)
    assert torch.equal(model[3].weight, other[3].weight)


def test_a_missing_parameter_says_so_and_needs_inputs_for_auto():
    state = trained().state_dict()
    del state["3.bias"], state["1.running_mean"]
    model = net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(PlanError, match=r"'3\.bias' must be initialised.*pass inputs"):
        fanin.adopt(model, state)
    assert equal(model, before)
    ledger = fanin.adopt(model, state, recipe="torch")
    assert "not in the checkpoint" in ledger["3.bias"].reason
    assert ledger["1.running_mean"].status == "left"
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert torch.equal(model[3].weight, state["3.weight"])


@pytest.mark.parametrize(
    ("rename", "says"),
    [
        (lambda n: f"module.{n}", "'module.' was taken off"),
        (lambda n: f"backbone.{n}", "'backbone.' was taken off"),
    ],
    ids=["module.", "any other"],
)
def test_a_prefix_of_the_checkpoint_is_taken_off(rename, says):
    state = trained().state_dict()
    model = net()
    ledger = fanin.adopt(model, {rename(n): t for n, t in state.items()})
    assert equal(model, state)
    assert says in ledger.notes[0]
    assert "loaded from" in ledger["0.weight"].reason


def test_a_prefix_of_the_model_is_put_on():
    state = trained().state_dict()
    model = nn.ModuleDict({"encoder": net(), "extra": nn.Linear(3, 2)})
    ledger = fanin.adopt(model, state, recipe="zeros")
    assert equal(model["encoder"], state)
    assert ledger.with_status("initialised") == ("extra.weight", "extra.bias")
    assert "'encoder.' was put before" in ledger.notes[0]


def test_two_ways_to_fit_are_refused():
    model = nn.ModuleDict({"student": net(), "teacher": net()})
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"more than one way.*student.*teacher"):
        fanin.adopt(model, trained().state_dict(), recipe="zeros")
    assert equal(model, before)


def test_tensors_that_the_model_lacks_are_counted():
    state = {**trained().state_dict(), "old.a": X, "old.b": X}
    assert "2 tensors of the checkpoint are not in the model: old.a, old.b" in (
        fanin.adopt(net(), state).notes
    )


@pytest.mark.parametrize(
    ("here", "there", "how"),
    [
        (torch.float32, torch.bfloat16, "exact"),
        (torch.float32, torch.float16, "exact"),
        (torch.float64, torch.float32, "exact"),
        (torch.bfloat16, torch.float32, "rounded"),
        (torch.bfloat16, torch.float16, "rounded"),
        (torch.float16, torch.bfloat16, "rounded"),
    ],
    ids=str,
)
def test_the_model_keeps_its_dtype_and_the_ledger_says_what_that_did(here, there, how):
    state = {
        n: t.to(there) if t.is_floating_point() else t for n, t in trained().state_dict().items()
    }
    model = net().to(here)
    ledger = fanin.adopt(model, state)
    assert model[0].weight.dtype == here
    assert torch.equal(model[0].weight, state["0.weight"].to(here))
    assert ledger["0.weight"].reason.endswith(f": {how}")
    assert ledger["1.num_batches_tracked"].reason == "loaded"


def test_quantised_tensors_are_no_weights():
    state = trained().state_dict()
    state["0.weight"] = state["0.weight"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"'0\.weight' is float32 .* int8"):
        fanin.adopt(net(), state)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight


@pytest.mark.parametrize(
    "names", [["table.weight"], ["head.weight"], ["table.weight", "head.weight"]]
)
def test_tied_weights_under_either_name(names):
    value = torch.randn(5, 3)
    model = Tied()
    ledger = fanin.adopt(model, dict.fromkeys(names, value))
    assert torch.equal(model.head.weight, value)
    assert model.head.weight is model.table.weight
    assert ledger["table.weight"].status == "loaded"
    assert ledger["head.weight"].status == "tied"


def test_tied_weights_that_differ_in_the_checkpoint():
    with pytest.raises(CheckpointError, match="one tensor in this model, but differ"):
        fanin.adopt(Tied(), {"table.weight": torch.ones(5, 3), "head.weight": torch.zeros(5, 3)})


def test_a_parametrised_weight_is_loaded_part_by_part():
    wrap = nn.utils.parametrizations.weight_norm
    source, target = nn.Sequential(wrap(nn.Linear(4, 4))), nn.Sequential(wrap(nn.Linear(4, 4)))
    state = source.state_dict()
    fanin.adopt(target, state)
    assert equal(target, state)
    # Of a checkpoint with the magnitude alone, the magnitude stays as loaded.
    part = {n: t for n, t in state.items() if not n.endswith("original1")}
    target = nn.Sequential(wrap(nn.Linear(4, 4)))
    ledger = fanin.adopt(target, part, recipe="xavier_normal")
    assert ledger.with_status("initialised") == ("0.parametrizations.weight.original1",)
    assert all(torch.equal(target.state_dict()[n], t) for n, t in part.items())


def test_frozen_backbones_are_loaded_and_stay_frozen():
    model = net(classes=5)
    model[0].requires_grad_(False)
    state = trained().state_dict()
    fanin.adopt(model, state, recipe="zeros")
    assert torch.equal(model[0].weight, state["0.weight"])
    assert not model[0].weight.requires_grad
    assert not model[3].weight.any()


BROKEN = {
    "cut.safetensors": (lambda p: p.write_bytes(b"\x10\x00\x00"), "not a whole safetensors"),
    "text.safetensors": (lambda p: p.write_text("hello there, this is text"), "not a whole"),
    "empty.safetensors": (lambda p: save_file({}, p), "holds no tensors"),
    "cut.pt": (lambda p: p.write_bytes(b"PK\x03\x04 broken"), "not a whole torch file"),
    "empty.pt": (lambda p: p.write_bytes(b""), "not a whole torch file"),
    "object.pt": (lambda p: torch.save(net(), p), "could run code"),
    "list.pt": (lambda p: torch.save([1, 2], p), "holds a list"),
    "words.pt": (lambda p: torch.save({"a": 1}, p), "no tensors"),
    "two.pt": (
        lambda p: torch.save({"generator": {"w": X}, "critic": {"w": X}}, p),
        "critic, generator",
    ),
    "x.index.json": (lambda p: p.write_text("{}"), "weight_map"),
    "y.index.json": (
        lambda p: p.write_text('{"weight_map": {"w": "gone.safetensors"}}'),
        "gone.safetensors",
    ),
    "weights.csv": (lambda p: p.write_text("1,2"), "fanin reads"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_one_line_and_no_change(tmp_path, name):
    make, says = BROKEN[name]
    make(tmp_path / name)
    model = net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=says) as caught:
        fanin.adopt(model, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert equal(model, before)


def test_what_is_no_checkpoint_at_all(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        fanin.adopt(net(), tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="holds none of"):
        fanin.adopt(net(), tmp_path)
    with pytest.raises(CheckpointError, match="is a int"):
        fanin.adopt(net(), 3)
    with pytest.raises(CheckpointError, match=r"none of its 1 tensors.*'0\.weight'.*zero\.weight"):
        fanin.adopt(net(), {"zero.weight": X})
    with pytest.raises(CheckpointError, match=r"no tensor has the model's shape"):
        fanin.adopt(nn.Linear(3, 3), {"weight": torch.zeros(2, 2)})


def test_a_shard_that_breaks_while_reading_changes_nothing(tmp_path):
    state = trained().state_dict()
    index = write(tmp_path, state, "sharded")
    from fanin.filling import checkpoint

    model = net()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    real = checkpoint.read_checkpoint(index)
    (tmp_path / "b.safetensors").write_bytes(b"gone")
    with pytest.raises(CheckpointError, match=r"b\.safetensors.*cannot be read"):
        real.tensors["3.weight"].read()
    with pytest.raises(CheckpointError):
        fanin.adopt(model, index)
    assert equal(model, before)


def test_an_interrupt_while_loading_changes_nothing(monkeypatch):
    from fanin.filling.transaction import Transaction

    model = net(classes=9)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    real, calls = Transaction.write, []

    def interrupted(self, name, values):
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, name, values)

    monkeypatch.setattr(Transaction, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fanin.adopt(model, trained().state_dict(), recipe="zeros")
    assert equal(model, before)


def test_recipes_of_every_kind_decide_for_the_missing():
    state = trained().state_dict()
    for recipe in ("zeros", Zeros(), fanin.plan(net(classes=9), recipe="zeros")):
        model = net(classes=9)
        fanin.adopt(model, state, recipe=recipe)
        assert not model[3].weight.any()

    def f(module):
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)

    model = net(classes=9)
    fanin.adopt(model, state, recipe=f)
    assert not model[3].weight.any()
    assert torch.equal(model[0].weight, state["0.weight"])


def test_a_scheme_that_cannot_draw_what_is_loaded_does_not_matter():
    model = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Conv2d(2, 2, 3))
    state = {n: t.clone() for n, t in model.state_dict().items() if n.startswith("0")}
    fanin.adopt(model, state, recipe="delta_orthogonal")  # impossible for 4 inputs, 2 outputs
    assert torch.equal(model[0].weight, state["0.weight"])
