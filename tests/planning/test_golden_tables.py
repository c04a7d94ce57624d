"""Golden tables: the std that each family's paper or reference states, parameter by parameter.

The numbers on the right are written out by hand from the formulas, on models built from the
configurations of transformers and diffusers; nothing is downloaded.
"""

import math

import pytest
from golden import CUT, check_table
from golden_models import (
    FF,
    LAYERS,
    D,
    bert,
    convnext,
    dit,
    gpt2,
    llama,
    lora,
    mixtral,
    qwen2_moe,
    resnet,
    t5,
    vit,
)

import fanin

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
            "*.ln_*.weight": (1, 0),
        },
    ),
    "bert": (
        bert,
        {
            "*.word_embeddings.weight": 0.02 * CUT * math.sqrt(63 / 64),  # a padding row
            "*_embeddings.weight": 0.02 * CUT,
            "*.LayerNorm.weight": (1, 0),
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
            "*norm.weight": (1, 0),
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
            "*norm.weight": (1, 0),
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
            "*norm*.weight": (1, 0),
            "*.bias": 0,
        },
    ),
    "convnext": (
        convnext,
        {
            "*.layer_scale_parameter": (1e-6, 0),
            "*norm*.weight": (1, 0),
            "*.downsampling_layer.0.weight": (1, 0),
            "*.bias": 0,
            "*.weight": 0.02,
        },
    ),
    "resnet": (
        resnet,
        {
            # He et al.: k²·C_out, whatever the stride; torchvision and transformers draw it too.
            "*.embedder.convolution.weight": math.sqrt(2 / (8 * 49)),
            "*.stages.0.*.convolution.weight": math.sqrt(2 / (8 * 9)),
            "*.stages.1.layers.0.shortcut.convolution.weight": math.sqrt(2 / 16),
            "*.convolution.weight": math.sqrt(2 / (16 * 9)),
            "classifier.1.weight": 0.01,
            "*.layer.1.normalization.weight": 0,  # the last of every branch
            "*normalization.weight": (1, 0),
            "*.bias": 0,
        },
    ),
    "moe": (
        mixtral,
        {
            "*.embed_tokens.weight": 1,
            "*norm.weight": (1, 0),
            "*.down_proj": CUT * math.sqrt(0.1 / FF),
            "*": CUT * math.sqrt(0.1 / D),
        },
    ),
    "small_init": (
        gpt2,
        {
            "*.c_proj.weight": 2 / (LAYERS * math.sqrt(D)),
            "*.bias": 0,
            "*.ln_*.weight": (1, 0),
            "*.weight": math.sqrt(2 / (5 * D)),
        },
    ),
    "deepnorm": (
        bert,
        {
            "*.word_embeddings.weight": D**-0.5 * math.sqrt(63 / 64),  # a padding row
            "*_embeddings.weight": D**-0.5,
            "*.query.weight": D**-0.5,
            "*.key.weight": D**-0.5,
            "*.value.weight": (8 * LAYERS) ** -0.25 * D**-0.5,
            "*.attention.output.dense.weight": (8 * LAYERS) ** -0.25 * D**-0.5,
            "*.intermediate.dense.weight": (8 * LAYERS) ** -0.25 * math.sqrt(2 / (D + FF)),
            "*.output.dense.weight": (8 * LAYERS) ** -0.25 * math.sqrt(2 / (D + FF)),
            "bert.pooler.dense.weight": D**-0.5,
            "classifier.weight": math.sqrt(2 / (D + 2)),
            "*.LayerNorm.weight": (1, 0),
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
            "*.relative_attention_bias.weight": D**-0.5 * (9 * LAYERS) ** -0.25,
            "*norm.weight": (1, 0),
        },
    ),
    "mup": (
        llama,
        {
            "*.embed_tokens.weight": 1,
            "lm_head.weight": 16 / D,  # √256/n
            "*norm.weight": (1, 0),
            "*.down_proj.weight": FF**-0.5,
            "*.weight": D**-0.5,
        },
    ),
    "moe (qwen)": (
        qwen2_moe,
        {
            "*.embed_tokens.weight": 1,
            "*norm.weight": (1, 0),
            "*.bias": 0,
            "*.experts.down_proj": CUT * math.sqrt(0.1 / 16),
            "*.shared_expert.down_proj.weight": CUT * math.sqrt(0.1 / 24),
            "*": CUT * math.sqrt(0.1 / D),
        },
    ),
    "dit": (
        dit,
        {
            "*.timestep_embedder.linear_?.weight": 0.02,
            "*.embedding_table.weight": 0.02,
            "*.norm1.linear.weight": 0,
            "proj_out_[12].weight": 0,
            "pos_embed.proj.weight": math.sqrt(2 / (16 + 16)),  # a linear layer over 4·2·2 inputs
            "*.attn1.*.weight": math.sqrt(2 / (16 + 16)),
            "*.ff.net.*.weight": math.sqrt(2 / (16 + 64)),
            "*.bias": 0,
        },
    ),
    "lora": (
        lora,
        {
            "*.q_proj.lora_A.default.weight": 1 / math.sqrt(3 * D),
            "*.down_proj.lora_A.default.weight": 1 / math.sqrt(3 * FF),
            "*.lora_B.default.weight": 0,
        },
    ),
}


# What an adapter stands on is frozen, and stays.
UNTOUCHED = {"lora": ["*.base_layer.*", "*norm*", "*embed*", "lm_head.*", "*.*_proj.weight"]}


@pytest.mark.parametrize("family", GOLDEN)
def test_golden_table(family):
    build, table = GOLDEN[family]
    model, inputs = build()
    recipe = family.partition(" ")[0]
    check_table(fanin.plan(model, inputs, recipe), table, left=UNTOUCHED.get(family, ()))
