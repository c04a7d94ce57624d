"""What the recipes of named families do beyond their golden tables."""

import math

import pytest
import torch
from golden import check_table
from golden_models import IDS, LAYERS, D, bert, llama, resnet, t5, transformers
from torch import nn

import fanin
from fanin.errors import PlanError
from fanin.planning import Action
from fanin.schemes import Blockwise, ChronoBias, Orthogonal, Zeros


def test_gpt2_is_what_transformers_itself_draws():
    config = transformers.GPT2Config(
        n_embd=128, n_layer=3, n_head=2, vocab_size=100, n_positions=16,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    plan = fanin.plan(model, IDS, "gpt2")
    assert fanin.planning.compare_with_tensors(plan, model) == []
    # And the comparison sees it when the residual scaling is lost, or put on another matrix.
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight *= math.sqrt(6)
        model.transformer.h[2].attn.c_attn.weight /= math.sqrt(6)
    found = {d.parameter for d in fanin.planning.compare_with_tensors(plan, model)}
    assert found == {"transformer.h.1.mlp.c_proj.weight", "transformer.h.2.attn.c_attn.weight"}


def test_t5_is_what_transformers_itself_draws():
    model, inputs = t5(tied=False)
    plan = fanin.plan(model, inputs, "t5")
    assert fanin.planning.compare_with_tensors(plan, model) == []


def test_resnet_closes_the_last_norm_of_every_branch_and_no_shortcut():
    model, inputs = resnet()
    plan = fanin.plan(model, inputs, "resnet")
    closed = [
        n for n, a in plan.items() if a.scheme == Zeros() and n.endswith("normalization.weight")
    ]
    blocks = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert closed == [
        f"resnet.encoder.stages.{s}.layers.{i}.layer.1.normalization.weight" for s, i in blocks
    ]
    fanin.apply(plan, model)
    model.eval()
    # With every branch closed, what a stage adds is the shortcut alone.
    states = model(inputs, output_hidden_states=True).hidden_states
    assert torch.equal(states[0], states[1])


class Sine(nn.Module):
    def __init__(self, omega_0):
        super().__init__()
        self.omega_0 = omega_0

    def forward(self, x):
        return torch.sin(self.omega_0 * x)


def test_siren_holds_its_distribution_through_depth():
    layers = [nn.Linear(2, 256), Sine(20.0)]
    for _ in range(5):
        layers += [nn.Linear(256, 256), Sine(20.0)]
    net = nn.Sequential(*layers, nn.Linear(256, 1))
    x = torch.rand(512, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plan = fanin.plan(net, x, "siren")
    assert plan["0.weight"].scheme.high == 1 / 2
    assert plan["2.weight"].scheme.high == pytest.approx(math.sqrt(6 / 256) / 20)
    assert plan["12.weight"].scheme.high == pytest.approx(math.sqrt(6 / 256) / 20)
    fanin.apply(plan, net)
    # The paper: pre-activations ω(Wx + b) approach N(0, 1), sines an arcsine law of std √½.
    out = net[:-1](x).detach()
    assert float(out.std()) == pytest.approx(math.sqrt(0.5), rel=0.1)


def test_lstm_and_chrono():
    net = nn.LSTM(5, 7, num_layers=2, batch_first=True)
    x = torch.randn(2, 50, 5)
    lstm, chrono = fanin.plan(net, x, "lstm"), fanin.plan(net, x, "chrono")
    assert lstm["weight_hh_l1"].scheme == Orthogonal()
    assert isinstance(lstm["bias_ih_l0"].scheme, Blockwise)
    assert chrono["bias_ih_l0"].scheme == ChronoBias(50.0)
    assert chrono["bias_hh_l0"].scheme == Zeros()
    fanin.apply(chrono, net, seed=3)
    i, f, g, o = net.bias_ih_l0.detach().split(7)
    assert torch.equal(i, -f)
    assert float(f.min()) >= 0
    assert float(f.max()) <= math.log(49)
    assert not g.any()
    assert not o.any()
    assert fanin.plan(net, recipe="chrono")["bias_ih_l0"].scheme == ChronoBias(100.0)


class NormFree(nn.Module):
    def __init__(self, blocks=4):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(blocks))
        self.alpha = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in range(blocks))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        for first, second, alpha in zip(self.first, self.second, self.alpha, strict=True):
            x = torch.relu(x + alpha * second(torch.relu(first(x))))
        return self.head(x.mean((2, 3)))


def test_fixup_on_a_net_without_norms():
    plan = fanin.plan(NormFree(4), torch.randn(2, 3, 8, 8), "fixup")
    he = math.sqrt(2 / (8 * 9))
    assert plan["stem.weight"].std == pytest.approx(he)
    for i in range(4):
        # L = 4 branches of m = 2 layers: L^(−1/(2m−2)) = 4^(−½).
        assert plan[f"first.{i}.weight"].std == pytest.approx(he * 4**-0.5)
        assert plan[f"second.{i}.weight"].scheme == Zeros()
    assert plan["head.weight"].scheme == Zeros()


def test_rezero_closes_the_gates_and_wants_some():
    model = NormFree(2)
    plan = fanin.plan(model, torch.randn(2, 3, 8, 8), "rezero")
    assert [plan[f"alpha.{i}"].scheme for i in range(2)] == [Zeros(), Zeros()]
    assert plan["first.0.weight"].std > 0
    with pytest.raises(PlanError, match="has none"):
        fanin.plan(nn.Linear(3, 3), torch.zeros(1, 3), "rezero")


class DiTBlock(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x, c):
        shift, scale, gate = self.adaLN_modulation(c).chunk(3, dim=-1)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)


class DiT(nn.Module):
    def __init__(self):
        super().__init__()
        self.x_embedder = nn.Conv2d(4, 16, 2, stride=2)
        self.t_embedder = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 16))
        self.y_embedder = nn.Embedding(10, 16)
        self.blocks = nn.ModuleList(DiTBlock() for _ in range(2))
        self.final_layer = nn.ModuleDict({"linear": nn.Linear(16, 16)})

    def forward(self, x, t, y):
        x = self.x_embedder(x).flatten(2).mT
        c = (self.t_embedder(t) + self.y_embedder(y))[:, None]
        for block in self.blocks:
            x = block(x, c)
        return self.final_layer["linear"](x)


def test_dit_starts_as_the_identity_with_output_zero():
    model = DiT()
    inputs = (torch.randn(2, 4, 8, 8), torch.rand(2, 1), torch.tensor([1, 2]))
    plan = fanin.plan(model, inputs, "dit")
    table = {
        "*adaLN_modulation*": 0,
        "final_layer.*": 0,
        "y_embedder.weight": 0.02,
        "t_embedder.?.weight": 0.02,
        "x_embedder.weight": math.sqrt(2 / (16 + 16)),  # as the linear layer that it is
        "blocks.*.mlp.*.weight": math.sqrt(2 / (16 + 32)),
        "*.bias": 0,
    }
    check_table(plan, table)
    fanin.apply(plan, model)
    assert not model(*inputs).any()


class LoRA(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(20, 20).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(20, 4, bias=False), nn.Linear(4, 20, bias=False)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x))


@pytest.mark.parametrize("inputs", [None, torch.zeros(1, 20)], ids=["by name", "by use"])
def test_lora_draws_the_adapter_and_leaves_the_model(inputs):
    model = nn.Sequential(LoRA(), nn.ReLU(), nn.Linear(20, 2))
    plan = fanin.plan(model, inputs, "lora")
    assert plan["0.lora_A.weight"].std == pytest.approx(1 / math.sqrt(3 * 20))
    assert plan["0.lora_B.weight"].scheme == Zeros()
    assert plan["0.base.weight"].action is Action.KEEP
    assert plan["2.weight"].action is Action.LEAVE
    with pytest.raises(PlanError, match="none was found"):
        fanin.plan(nn.Linear(3, 3), recipe="lora")


def test_mup_with_another_base_width():
    from fanin.planning.recipes.mup import mup

    model, inputs = llama()
    assert fanin.plan(model, inputs, mup(D))["lm_head.weight"].std == pytest.approx(D**-0.5)
    assert "× 256/32" in fanin.plan(model, inputs, "mup").advice[0]


def test_deepnorm_says_what_belongs_to_the_architecture():
    model, inputs = bert()
    advice = fanin.plan(model, inputs, "deepnorm").advice[0]
    assert f"α = {(2 * LAYERS) ** 0.25:.4g}" in advice


def test_vit_draws_what_stands_behind_the_encoder_as_flax_does():
    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.pre_logits, self.head = nn.Linear(16, 16), nn.Linear(16, 5)

        def forward(self, x):
            return self.head(torch.tanh(self.pre_logits(self.encoder(x).mean(1))))

    plan = fanin.plan(ViT(), torch.randn(2, 7, 16), "vit")
    # flax's Dense: variance 1/fan_in, cut at 2σ; the encoder's matrices: Xavier uniform.
    assert plan["pre_logits.weight"].std == pytest.approx(16**-0.5, rel=1e-4)
    assert plan["encoder.layers.1.linear2.weight"].std == pytest.approx((2 / 48) ** 0.5, rel=1e-4)
    assert plan["head.weight"].std == 0
