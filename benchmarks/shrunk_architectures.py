"""More of transformers' models, made small by the names of their settings; see ``architectures``.

These were tried on models that fanin had not been written against: every entry of transformers'
table of configurations was shrunk in this way, and those that still ran are candidates here.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from architectures import ARCHITECTURES, Built, ids, image

_SIZES = {
    "vocab_size": 99, "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embed_dim": 32,
    "num_hidden_layers": 2, "n_layer": 2, "num_layers": 2, "num_decoder_layers": 2,
    "encoder_layers": 2, "decoder_layers": 2, "depth": 2,
    "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "num_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2,
    "encoder_num_attention_heads": 4, "encoder_num_key_value_heads": 4,
    "decoder_num_attention_heads": 4, "decoder_num_key_value_heads": 4,
    "intermediate_size": 48, "d_ff": 48, "n_inner": 48, "hidden_dim": 48, "ffn_dim": 48,
    "mlp_dim": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "d_kv": 8,
    "max_position_embeddings": 64, "n_positions": 64, "image_size": 32, "patch_size": 8,
    "projection_dim": 16, "embedding_size": 16, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "head_dim": 8, "sliding_window": 16,
    "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip


def _shrink(config: Any, base: type) -> None:
    mapped = getattr(config, "attribute_map", None) or {}
    for key, value in list(vars(config).items()):
        if isinstance(value, base):
            _shrink(value, base)
        elif key in _SIZES and key not in mapped and type(value) is int:
            if value > _SIZES[key] or value < 0:
                setattr(config, key, _SIZES[key])
        elif key == "layer_types" and isinstance(value, list):
            # One layer of every kind, and two at least.
            kinds = list(dict.fromkeys(value))
            config.layer_types = (kinds * 2)[: max(2, len(kinds))]
            config.num_hidden_layers = len(config.layer_types)
        elif key == "mlp_layer_types" and isinstance(value, list):
            config.mlp_layer_types = (list(dict.fromkeys(value)) * 2)[:2]


def _shrunk(model: str, config: str, inputs: Callable[[], Any]) -> None:
    def build() -> Built:
        library = importlib.import_module("transformers")
        library.logging.set_verbosity_error()
        kind = getattr(library, config)
        settings = kind()
        _shrink(settings, library.PretrainedConfig)
        plain = settings.to_dict()
        for key in ("model_type", "transformers_version", "architectures"):
            plain.pop(key, None)
        return getattr(library, model)(kind(**plain)).eval(), inputs()

    ARCHITECTURES[f"transformers/{model} (shrunk)"] = build


def _text() -> dict[str, Any]:
    return {"input_ids": ids(8)}


def _pair() -> dict[str, Any]:
    return {"input_ids": ids(8), "decoder_input_ids": ids(5)}


def _pixels() -> dict[str, Any]:
    return {"pixel_values": image()}


def _text_and_pixels() -> dict[str, Any]:
    return {"input_ids": ids(8), "pixel_values": image()}


for _model in (
    "DogeForCausalLM", "GraniteMoeSharedForCausalLM", "OlmoHybridForCausalLM",
    "VaultGemmaForCausalLM", "ExaoneMoeForCausalLM", "PhimoeForCausalLM", "SmolLM3ForCausalLM",
    "Qwen3MoeForCausalLM", "TapasForMaskedLM", "Ernie4_5_MoeForCausalLM",
    "FalconMambaForCausalLM", "JetMoeForCausalLM", "LayoutLMForMaskedLM", "Qwen3NextForCausalLM",
    "RemBertForCausalLM", "HeliumForCausalLM", "XGLMForCausalLM", "ApertusForCausalLM",
    "Cohere2ForCausalLM", "DebertaForMaskedLM", "RobertaPreLayerNormForCausalLM",
    "DiffLlamaForCausalLM", "IBertForMaskedLM", "Lfm2ForCausalLM", "MiniMaxForCausalLM",
    "Glm4ForCausalLM", "RoFormerForCausalLM", "CpmAntForCausalLM", "YosoModel", "EuroBertModel",
    "NanoChatForCausalLM", "ArceeForCausalLM", "XLMRobertaXLForCausalLM", "MarkupLMModel",
    "SeedOssForCausalLM",
):  # fmt: skip
    _name = _model
    for _end in ("ForCausalLM", "ForMaskedLM", "Model"):
        _name = _name.removesuffix(_end)
    _shrunk(_model, f"{_name}Config", _text)

for _model, _config in (
    ("FSMTForConditionalGeneration", "FSMTConfig"),
    ("SeamlessM4TForTextToText", "SeamlessM4TConfig"),
    ("UMT5ForConditionalGeneration", "UMT5Config"),
    ("NllbMoeForConditionalGeneration", "NllbMoeConfig"),
):
    _shrunk(_model, _config, _pair)

for _model in ("SamVisionModel", "ViTMSNModel", "Data2VecVisionModel", "PixtralVisionModel"):
    _shrunk(_model, _model.removesuffix("Model") + "Config", _pixels)

for _model in ("BlipForConditionalGeneration", "GroupViTModel", "CLIPSegModel", "AltCLIPModel",
               "Aimv2Model", "Owlv2Model"):  # fmt: skip
    _name = _model.removesuffix("ForConditionalGeneration").removesuffix("Model")
    _shrunk(_model, f"{_name}Config", _text_and_pixels)

_shrunk("TimesformerModel", "TimesformerConfig",
        lambda: {"pixel_values": torch.randn(2, 8, 3, 32, 32)})  # fmt: skip
_shrunk("PatchTSMixerModel", "PatchTSMixerConfig", lambda: {"past_values": torch.randn(2, 32, 1)})
_shrunk("MoonshineModel", "MoonshineConfig",
        lambda: {"input_values": torch.randn(2, 16000), "decoder_input_ids": ids(5)})  # fmt: skip
