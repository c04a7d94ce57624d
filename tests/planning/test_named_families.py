"""Golden tables: the std that each family's paper or reference states, parameter by parameter.

The numbers on the right are written out by hand from the formulas, on models built from
transformers' configs (no download) or, where transformers has none, on small nets of torch.nn.
"""

import math
from fnmatch import fnmatchcase

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError
from fanin.planning import Action
from fanin.schemes import Blockwise, ChronoBias, Normal, Orthogonal, Zeros

transformers = pytest.importorskip("transformers")

D, FF, HEADS, LAYERS, VOCABULARY = 32, 64, 2, 2, 64
CUT = 0.87962566103423978  # std of a unit normal cut at ±2
IDS = {"input_ids": torch.arange(8)[None]}
COMMON = {
    "hidden_size": D,
    "intermediate_size": FF,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "vocab_size": VOCABULARY,
}


def gpt2():
    config = transformers.GPT2Config(
        n_embd=D, n_layer=LAYERS, n_head=HEADS, vocab_size=VOCABULARY, n_positions=16,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config), IDS


def bert():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**COMMON)), IDS


def llama():
    config = transformers.LlamaConfig(**COMMON, num_key_value_heads=1)
    return transformers.LlamaForCausalLM(config), IDS


def t5(tied=True):
    config = transformers.T5Config(
        d_model=D, d_kv=8, d_ff=FF, num_layers=LAYERS, num_heads=4, vocab_size=VOCABULARY,
        tie_word_embeddings=tied, feed_forward_proj="relu" if tied else "gated-gelu",
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    return model, {**IDS, "decoder_input_ids": torch.arange(8)[None]}


def vit():
    sizes = {k: v for k, v in COMMON.items() if k != "vocab_size"}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8)
    return transformers.ViTForImageClassification(config), torch.zeros(2, 3, 16, 16)


def convnext():
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2)
    return transformers.ConvNextForImageClassification(config), torch.zeros(2, 3, 32, 32)


def resnet():
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], layer_type="basic"
    )
    return transformers.ResNetForImageClassification(config), torch.randn(2, 3, 32, 32)


def mixtral():
    config = transformers.MixtralConfig(**COMMON, num_key_value_heads=2, num_local_experts=4)
    return transformers.MixtralForCausalLM(config), IDS


GOLDEN = {
    "gpt2": (
        gpt2,
        {
            "*.wte.weight": 0.02,
            "*.wpe.weight": 0.02,
            "*.c_attn.weight": 0.02,
            "*.c_fc.weight": 0.02,
            "*.c_proj.weight": 0.02 / math.sqrt(2 * LAYERS),
            "*.bias": 0,
            "*.ln_*.weight": 0,
        },
    ),
    "bert": (
        bert,
        {
            "*.word_embeddings.weight": 0.02 * CUT * math.sqrt(63 / 64),  # a padding row
            "*_embeddings.weight": 0.02 * CUT,
            "*.LayerNorm.weight": 0,
            "*.bias": 0,
            "*.weight": 0.02 * CUT,
        },
    ),
    "llama": (
        llama,
        {
            "*.embed_tokens.weight": 1,
            "*.layers.0.*.o_proj.weight": 0.02 / math.sqrt(2),
            "*.layers.1.*.o_proj.weight": 0.02 / math.sqrt(4),
            "*.layers.0.*.down_proj.weight": 0.02 / math.sqrt(2),
            "*.layers.1.*.down_proj.weight": 0.02 / math.sqrt(4),
            "*.layers.0.*.up_proj.weight": 0.02 / math.sqrt(2),
            "*.layers.1.*.up_proj.weight": 0.02 / math.sqrt(4),
            "*norm.weight": 0,
            "lm_head.weight": 0.98658 * D**-0.5,  # cut at 3σ
            "*.weight": 0.02,
        },
    ),
    "t5": (
        t5,
        {
            "shared.weight": 1,
            "*.q.weight": (D * 8) ** -0.5,
            "*.[kv].weight": D**-0.5,
            "*.o.weight": (4 * 8) ** -0.5,
            "*.relative_attention_bias.weight": D**-0.5,
            "*.wi.weight": D**-0.5,
            "*.wo.weight": FF**-0.5,
            "*norm.weight": 0,
        },
    ),
    "vit": (
        vit,
        {
            "*.cls_token": 0,
            "*.position_embeddings": 0.02,
            "*.projection.weight": (3 * 8 * 8) ** -0.5,
            "*_proj.weight": math.sqrt(2 / (D + D)),
            "*.fc?.weight": math.sqrt(2 / (D + FF)),
            "*.fc?.bias": 1e-6,
            "classifier.weight": 0,
            "*norm*": 0,
            "*.bias": 0,
        },
    ),
    "convnext": (
        convnext,
        {
            "*.layer_scale_parameter": 0,
            "*norm*": 0,
            "*.downsampling_layer.0.*": 0,
            "*.bias": 0,
            "*.weight": 0.02,
        },
    ),
    "resnet": (
        resnet,
        {
            "*.embedder.convolution.weight": math.sqrt(2 * 4 / (8 * 49)),  # stride 2
            "*.stages.0.*.convolution.weight": math.sqrt(2 / (8 * 9)),
            "*.stages.1.layers.0.shortcut.convolution.weight": math.sqrt(2 * 4 / 16),
            "*.stages.1.layers.0.layer.0.convolution.weight": math.sqrt(2 * 4 / (16 * 9)),
            "*.convolution.weight": math.sqrt(2 / (16 * 9)),
            "classifier.1.weight": 0.01,
            "*normalization*": 0,
            "*.bias": 0,
        },
    ),
    "moe": (
        mixtral,
        {
            "*.embed_tokens.weight": 1,
            "*norm.weight": 0,
            "*.down_proj": CUT * math.sqrt(0.1 / FF),
            "*": CUT * math.sqrt(0.1 / D),
        },
    ),
    "small_init": (
        gpt2,
        {
            "*.c_proj.weight": 2 / (LAYERS * math.sqrt(D)),
            "*.bias": 0,
            "*.ln_*.weight": 0,
            "*.weight": math.sqrt(2 / (5 * D)),
        },
    ),
    "deepnorm": (
        bert,
        {
            "*.query.weight": D**-0.5,
            "*.key.weight": D**-0.5,
            "*.value.weight": (8 * LAYERS) ** -0.25 * D**-0.5,
            "*.attention.output.dense.weight": (8 * LAYERS) ** -0.25 * D**-0.5,
            "*.intermediate.dense.weight": (8 * LAYERS) ** -0.25 * math.sqrt(2 / (D + FF)),
            "*.output.dense.weight": (8 * LAYERS) ** -0.25 * math.sqrt(2 / (D + FF)),
            "*.LayerNorm.weight": 0,
            "*.bias": 0,
        },
    ),
    "t_fixup": (
        t5,
        {
            "shared.weight": D**-0.5 * (9 * LAYERS) ** -0.25,
            "*.[qk].weight": D**-0.5,
            "encoder.*.[vo].weight": 0.67 * LAYERS**-0.25 * D**-0.5,
            "decoder.*.[vo].weight": (9 * LAYERS) ** -0.25 * D**-0.5,
            "encoder.*.w?.weight": 0.67 * LAYERS**-0.25 * math.sqrt(2 / (D + FF)),
            "decoder.*.w?.weight": (9 * LAYERS) ** -0.25 * math.sqrt(2 / (D + FF)),
        },
    ),
    "mup": (
        llama,
        {
            "*.embed_tokens.weight": 1,
            "lm_head.weight": 16 / D,  # √256/n
            "*norm.weight": 0,
            "*.down_proj.weight": FF**-0.5,
            "*.weight": D**-0.5,
        },
    ),
}


def check_table(plan, table):
    """Every drawn parameter has the std of the first pattern that it matches; each is used."""
    used = set()
    for name, assignment in plan.items():
        if assignment.action is not Action.INITIALISE:
            continue
        pattern = next((p for p in table if fnmatchcase(name, p)), None)
        if pattern is None:
            continue
        used.add(pattern)
        assert assignment.std == pytest.approx(table[pattern], rel=1e-4, abs=1e-12), name
    assert used == set(table)


@pytest.mark.parametrize("family", GOLDEN)
def test_golden_table(family):
    build, table = GOLDEN[family]
    model, inputs = build()
    plan = fanin.plan(model, inputs, family)
    check_table(plan, table)
    assert all(a.action in {Action.INITIALISE, Action.TIED} for a in plan.values())


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


def test_dcgan():
    net = nn.Sequential(
        nn.ConvTranspose2d(4, 8, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 4)
    )
    plan = fanin.plan(net, recipe="dcgan")
    assert plan["1.weight"].scheme == Normal(mean=1.0, std=0.02)
    assert plan["0.weight"].scheme == plan["3.weight"].scheme == Normal(std=0.02)


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
