"""Models on the meta device: memory, identity, buffers."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError


def on_meta(build):
    with torch.device("meta"):
        return build()


class Rotary(nn.Module):
    def __init__(self, dim, base=10000.0, device=None):
        super().__init__()
        self.dim, self.base = dim, base
        frequencies = base ** (-torch.arange(0, dim, 2, device=device) / dim)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.original = self.frequencies
        self.constant = torch.arange(3.0, device=device)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4, padding_idx=0)
        self.norm = nn.BatchNorm1d(4)
        self.rotary = Rotary(8, base=500.0)
        self.wn = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.sn = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight


@pytest.mark.parametrize("recipe", ["xavier_normal", "orthogonal", "torch", "zeros"])
def test_meta_and_real_models_become_the_same(recipe):
    real, meta = Net(), on_meta(Net)
    identities = {n: id(p) for n, p in meta.named_parameters(remove_duplicate=False)}
    fanin.initialize(real, recipe=recipe, seed=2)
    fanin.initialize(meta, recipe=recipe, seed=2)
    assert identities == {n: id(p) for n, p in meta.named_parameters(remove_duplicate=False)}
    assert all(type(p) is nn.Parameter and p.requires_grad for p in meta.parameters())
    assert meta.head.weight is meta.table.weight
    for name, tensor in real.state_dict().items():
        if recipe == "zeros" and name.endswith("original1"):
            continue  # the direction of a zero weight is free
        assert torch.equal(meta.state_dict()[name], tensor), name
    assert torch.equal(meta.rotary.frequencies, real.rotary.frequencies)
    assert meta.rotary.original is meta.rotary.frequencies
    assert torch.equal(meta.rotary.constant, torch.arange(3.0))
    assert meta.norm.running_var.tolist() == [1.0] * 4
    assert meta.norm.num_batches_tracked == 0
    x = meta.wn(meta.norm(meta.table(torch.arange(6))))
    assert torch.isfinite(x).all()


def test_the_ledger_says_how_buffers_were_made():
    ledger = fanin.initialize(on_meta(Net), recipe="torch")
    assert ledger["rotary.frequencies"].status == "initialised"
    assert "Rotary's constructor" in ledger["rotary.frequencies"].reason
    assert "start at 0 and 1" in ledger["norm.running_var"].reason


def test_attributes_and_frozen_flags_travel_along():
    meta = on_meta(lambda: nn.Linear(3, 3))
    meta.weight.no_decay = True
    meta.weight.requires_grad_(False)
    fanin.initialize(meta, recipe="ones", overrides={"weight": "zeros"})
    assert meta.weight.no_decay
    assert not meta.weight.requires_grad
    assert not meta.weight.is_meta


class Forgetful(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.register_buffer("table", torch.arange(4.0) * base)


def test_a_buffer_that_cannot_be_computed_again_is_an_error():
    model = on_meta(lambda: nn.Sequential(nn.Linear(2, 2), Forgetful(3.0)))
    with pytest.raises(PlanError, match=r"'1\.table'.*argument 'base'"):
        fanin.initialize(model, recipe="ones")
    assert model[0].weight.is_meta  # wholly or not at all


class Changed(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size
        self.register_buffer("table", torch.zeros(size))


def test_a_setting_that_no_longer_fits_is_an_error():
    model = on_meta(lambda: Changed(3))
    model.size = 4
    with pytest.raises(PlanError, match="does not give a tensor of its shape"):
        fanin.initialize(model, recipe="ones")
    model.size = "three"
    with pytest.raises(PlanError, match="cannot be constructed again"):
        fanin.initialize(model, recipe="ones")


def test_what_would_stay_without_memory_is_an_error():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.what = nn.Parameter(torch.zeros(3, 3))

    with pytest.raises(PlanError, match="'what' would stay on the meta device"):
        fanin.initialize(on_meta(Odd), recipe="kaiming_normal")
    frozen = on_meta(lambda: nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(PlanError, match="frozen"):
        fanin.initialize(frozen, recipe="ones")
    with pytest.raises(PlanError, match="needs tensors with memory"):
        fanin.initialize(on_meta(lambda: nn.Linear(2, 2)), recipe=lambda module: None)
    with pytest.raises(PlanError, match="left as constructed"):
        fanin.initialize(on_meta(lambda: nn.Linear(2, 2)), recipe="shipped")


def test_rebuilding_draws_no_weights_and_restores_the_generator():
    class Wide(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.width = width
            self.weight = nn.Parameter(torch.empty(width, width))
            nn.init.normal_(self.weight)
            self.register_buffer("noise", torch.randn(5))

    state = torch.get_rng_state()
    first, second = on_meta(lambda: Wide(8)), on_meta(lambda: Wide(8))
    for model in (first, second):
        fanin.initialize(model, recipe="zeros", overrides={"weight": "ones"}, seed=4)
    assert torch.equal(first.noise, second.noise)
    assert first.noise.std() > 0
    assert torch.equal(state, torch.get_rng_state())


def test_transformers_models():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=50, rope_theta=500.0,
    )  # fmt: skip
    real = transformers.LlamaForCausalLM(config)
    meta = on_meta(lambda: transformers.LlamaForCausalLM(config))
    ids = torch.arange(8)[None]
    plan = fanin.plan(meta, {"input_ids": ids.to("meta")}, "llama")
    fanin.apply(plan, meta)
    fanin.initialize(real, {"input_ids": ids}, "llama")
    assert torch.equal(meta(input_ids=ids).logits, real(input_ids=ids).logits)


PROGRAM = """
import resource, torch, fanin
from torch import nn
warm = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
fanin.initialize(warm, recipe="normal_0.02")
with torch.device("meta"):
    model = nn.Sequential(*[nn.Linear(2048, 2048) for _ in range(16)])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fanin.initialize(model, recipe="normal_0.02")
own = sum(p.numel() * 4 for p in model.parameters()) // 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before - own)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_no_more_than_64_mib_beyond_the_tensors():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 64 * 1024


def test_recurrent_layers_keep_their_flat_weights():
    meta, real = on_meta(lambda: nn.LSTM(3, 4, num_layers=2)), nn.LSTM(3, 4, num_layers=2)
    identities = [id(p) for p in meta.parameters()]
    for model in (meta, real):
        fanin.initialize(model, recipe="lstm", seed=1)
    assert [id(p) for p in meta.parameters()] == identities
    x = torch.randn(5, 2, 3)
    assert torch.equal(meta(x)[0], real(x)[0])
    meta(x)[0].sum().backward()
    assert all(p.grad is not None for p in meta.parameters())
    meta.double()
    assert meta(x.double())[0].dtype == torch.float64


@pytest.mark.parametrize("family", ["bert", "gemma"])
def test_buffers_of_modules_that_do_not_store_their_config(family):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 50,
    }  # fmt: skip
    if family == "bert":
        build = lambda: transformers.BertModel(transformers.BertConfig(**sizes))  # noqa: E731
    else:
        config = transformers.GemmaConfig(**sizes, num_key_value_heads=1, head_dim=16)
        build = lambda: transformers.GemmaForCausalLM(config)  # noqa: E731
    real, meta = build().eval(), on_meta(build).eval()
    for model in (real, meta):
        fanin.initialize(model, recipe="normal_0.02")
    theirs = dict(meta.named_buffers())
    for name, buffer in real.named_buffers():
        assert torch.equal(theirs[name], buffer), name
    ids = torch.arange(8)[None]
    assert torch.equal(meta(input_ids=ids)[0], real(input_ids=ids)[0])
