"""Small models of transformers, built from configurations: nothing is downloaded."""

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

D, FF, HEADS, LAYERS, VOCABULARY = 32, 64, 2, 2, 64
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


def qwen2_moe():
    config = transformers.Qwen2MoeConfig(
        **COMMON, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=16, shared_expert_intermediate_size=24,
    )  # fmt: skip
    return transformers.Qwen2MoeForCausalLM(config), IDS


def dit():
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2,
        sample_size=8, patch_size=2, norm_num_groups=4, num_embeds_ada_norm=10,
    )  # fmt: skip
    return model.eval(), {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([1, 2]),
        "class_labels": torch.tensor([0, 1]),
    }


class LoraLinear(nn.Module):
    """A linear layer under an adapter, with the names that PEFT gives."""

    def __init__(self, base, rank=4, alpha=8):
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        self.lora_dropout = nn.ModuleDict({"default": nn.Identity()})
        self.scaling = alpha / rank

    def forward(self, x):
        down, up = self.lora_A["default"], self.lora_B["default"]
        return self.base_layer(x) + up(down(self.lora_dropout["default"](x))) * self.scaling


def lora():
    model, inputs = llama()
    model.requires_grad_(False)
    for layer in model.model.layers:
        layer.self_attn.q_proj = LoraLinear(layer.self_attn.q_proj)
        layer.mlp.down_proj = LoraLinear(layer.mlp.down_proj)
    return model, inputs
