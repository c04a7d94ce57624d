"""Roles over families of public models, as small instances built from their configurations."""

import re
import resource
import subprocess
import sys

import pytest
import torch

from fanin.graph import Role, read_roles, record

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[3, 4, 5, 6]])


def roles_of(model: str, config: str, inputs, **settings):
    net = getattr(transformers, model)(getattr(transformers, config)(**settings)).eval()
    return read_roles(record(net, inputs))


def weights(roles):
    """Suffix of the name within a block -> role, for everything but norms and biases."""
    quiet = (Role.BIAS, Role.NORM_BIAS, Role.NORM_SCALE)
    return {
        re.sub(r"\.\d+\.", ".N.", name): role.role.value
        for name, role in roles.items()
        if role.role not in quiet
    }


def test_gpt2():
    roles = roles_of(
        "GPT2LMHeadModel", "GPT2Config", {"input_ids": IDS}, n_layer=3, n_embd=8, n_head=2,
        vocab_size=20,
    )  # fmt: skip
    assert weights(roles) == {
        "transformer.wte.weight": "tied embedding and head",
        "transformer.wpe.weight": "position table",
        "transformer.h.N.attn.c_attn.weight": "packed q/k/v",
        "transformer.h.N.attn.c_proj.weight": "attention out",
        "transformer.h.N.mlp.c_fc.weight": "weight",
        "transformer.h.N.mlp.c_proj.weight": "residual writer",
    }
    packed = roles["transformer.h.0.attn.c_attn.weight"]
    assert (packed.axes.inputs, packed.axes.outputs) == ((0,), (1,))
    assert packed.axes.block_sizes == (8, 8, 8)
    assert roles["transformer.h.1.mlp.c_fc.weight"].activation.name == "gelu_tanh"
    writers = [n for n, r in roles.items() if r.residual_branches and n.endswith("weight")]
    assert len(writers) == 6
    assert all("c_proj" in name for name in writers)
    assert {roles[name].residual_branches for name in writers} == {6}


def test_llama():
    roles = roles_of(
        "LlamaForCausalLM", "LlamaConfig", {"input_ids": IDS}, num_hidden_layers=2, hidden_size=16,
        intermediate_size=24, num_attention_heads=4, num_key_value_heads=2, vocab_size=20,
    )  # fmt: skip
    block = "model.layers.N."
    assert weights(roles) == {
        "model.embed_tokens.weight": "embedding",
        f"{block}self_attn.q_proj.weight": "query",
        f"{block}self_attn.k_proj.weight": "key",
        f"{block}self_attn.v_proj.weight": "value",
        f"{block}self_attn.o_proj.weight": "attention out",
        f"{block}mlp.gate_proj.weight": "gate projection",
        f"{block}mlp.up_proj.weight": "up projection",
        f"{block}mlp.down_proj.weight": "down projection",
        "lm_head.weight": "head",
    }
    assert roles["model.layers.1.mlp.down_proj.weight"].residual_branches == 4
    assert roles["model.layers.1.mlp.down_proj.weight"].before.name == "silu"
    assert roles["model.norm.weight"].role is Role.NORM_SCALE


def test_t5_counts_encoder_and_decoder_apart():
    roles = roles_of(
        "T5ForConditionalGeneration", "T5Config", {"input_ids": IDS, "decoder_input_ids": IDS},
        num_layers=2, num_decoder_layers=3, d_model=16, d_kv=4, num_heads=4, d_ff=24, vocab_size=20,
    )  # fmt: skip
    found = weights(roles)
    relative = "encoder.block.N.layer.N.SelfAttention.relative_attention_bias.weight"
    assert found[relative] == "position table"
    assert found["encoder.block.N.layer.N.DenseReluDense.wo.weight"] == "residual writer"
    assert found["decoder.block.N.layer.N.EncDecAttention.k.weight"] == "key"
    assert roles["encoder.block.1.layer.1.DenseReluDense.wo.weight"].residual_branches == 4
    assert roles["decoder.block.1.layer.2.DenseReluDense.wo.weight"].residual_branches == 9


def test_vit():
    roles = roles_of(
        "ViTForImageClassification", "ViTConfig", {"pixel_values": torch.randn(1, 3, 16, 16)},
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        image_size=16, patch_size=8,
    )  # fmt: skip
    found = weights(roles)
    assert found["vit.embeddings.cls_token"] == "learned token"
    assert found["vit.embeddings.position_embeddings"] == "position table"
    assert found["classifier.weight"] == "head"
    assert sum(role == "attention out" for role in found.values()) == 1
    assert roles["vit.embeddings.patch_embeddings.projection.weight"].axes.stride == (8, 8)


def test_resnet():
    roles = roles_of(
        "ResNetForImageClassification", "ResNetConfig", {"pixel_values": torch.randn(1, 3, 32, 32)},
        embedding_size=8, hidden_sizes=[16, 32], depths=[2, 1], num_labels=3,
    )  # fmt: skip
    writers = {n for n, r in roles.items() if r.role is Role.RESIDUAL_WRITER}
    assert writers == {
        f"resnet.encoder.stages.{block}.layer.2.convolution.weight"
        for block in ("0.layers.0", "0.layers.1", "1.layers.0")
    }
    last = {n for n, r in roles.items() if r.role is Role.NORM_SCALE and r.residual_branches}
    assert last == {name.replace("convolution", "normalization") for name in writers}
    assert roles["classifier.1.weight"].role is Role.HEAD


def test_gemma_scales_by_one_plus_its_weight():
    roles = roles_of(
        "GemmaForCausalLM", "GemmaConfig", {"input_ids": IDS}, num_hidden_layers=1, hidden_size=16,
        intermediate_size=24, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        vocab_size=20,
    )  # fmt: skip
    assert roles["model.norm.weight"].role is Role.NORM_SCALE
    assert roles["model.norm.weight"].offset == 1.0


def test_bert_positions_are_told_by_their_name_and_say_so():
    roles = roles_of(
        "BertModel", "BertConfig", {"input_ids": IDS}, num_hidden_layers=1, hidden_size=16,
        intermediate_size=24, num_attention_heads=2, vocab_size=20,
    )  # fmt: skip
    table = roles["embeddings.position_embeddings.weight"]
    assert table.role is Role.POSITION_TABLE
    assert table.from_name
    assert "name" in table.evidence[0]
    assert roles["embeddings.token_type_embeddings.weight"].role is Role.EMBEDDING
    assert roles["encoder.layer.0.output.dense.weight"].residual_branches == 2
    assert sum(role.from_name for role in roles.values()) == 1


def test_experts_are_a_batch():
    roles = roles_of(
        "MixtralForCausalLM", "MixtralConfig", {"input_ids": IDS}, num_hidden_layers=1,
        hidden_size=16, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=20, num_local_experts=4,
    )  # fmt: skip
    experts = [r for n, r in roles.items() if "experts" in n]
    assert {role.role for role in experts} == {Role.GATE_PROJECTION, Role.DOWN_PROJECTION}
    assert all(role.axes.batch == (0,) for role in experts)
    packed = next(role for role in experts if role.role is Role.GATE_PROJECTION)
    assert packed.block_names == ("gate", "up")
    assert packed.axes.block_sizes == (24, 24)
    assert sum(role.role is Role.ROUTER for role in roles.values()) == 1


SEVENTY_BILLION = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from fanin.graph import read_roles, record
config = LlamaConfig(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                     num_attention_heads=64, num_key_value_heads=8, vocab_size=32000)
with torch.device("meta"):
    model = LlamaForCausalLM(config)
roles = read_roles(record(model, {"input_ids": torch.zeros(1, 16, dtype=torch.long)}))
assert len(roles) == 80 * 9 + 3
assert {r.residual_branches for r in roles.values()} == {0, 160}
"""


@pytest.mark.slow
def test_seventy_billion_parameters_on_meta():
    """Llama-2-70B's configuration: under 60 seconds of processor time and 2 GiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", SEVENTY_BILLION], check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 60
    assert after.ru_maxrss < 2 * 2**20 * (1024 if sys.platform == "darwin" else 1)
