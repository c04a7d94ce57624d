# ruff: noqa: E501 - one line of settings an architecture reads better than ten
"""Small models of many architectures, built from configurations: nothing is downloaded.

Each entry is a name and a function that returns ``(model, inputs)``.  The libraries are optional;
an architecture whose library is missing is skipped and counted as such.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Built = tuple[nn.Module, Any]
ARCHITECTURES: dict[str, Callable[[], Built]] = {}

_SMALL = {
    "vocab_size": 99, "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "emb_dim": 32,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "num_decoder_layers": 2,
    "encoder_layers": 2, "decoder_layers": 2, "num_encoder_layers": 2, "num_blocks": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "d_ff": 48, "n_inner": 48, "hidden_dim": 48, "ffn_dim": 48,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "d_kv": 8, "d_head": 8, "d_inner": 48,
    "max_position_embeddings": 64, "n_positions": 64, "image_size": 32, "patch_size": 8,
    "num_labels": 3, "projection_dim": 16, "embedding_size": 16, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "num_channels": 3,
    "head_dim": 8, "mm_tokens_per_image": 4, "sliding_window": 16, "attention_window": 4,
}  # fmt: skip


def architecture(name: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    def enrol(build: Callable[[], Built]) -> Callable[[], Built]:
        ARCHITECTURES[name] = build
        return build

    return enrol


def ids(length: int = 7, batch: int = 2) -> torch.Tensor:
    return torch.arange(batch * length).reshape(batch, length) % 90 + 3


def image(size: int = 32, channels: int = 3, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, size, size)


def _config(library: Any, name: str, settings: dict[str, Any]) -> Any:
    kind = getattr(library, name)
    plain = kind()
    names = set(getattr(plain, "attribute_map", {})) | set(vars(plain))
    own = set(vars(plain))
    mapped = getattr(plain, "attribute_map", {})
    small = {
        key: value
        for key, value in _SMALL.items()
        if key in own
        and key not in mapped
        and not isinstance(vars(plain)[key], list | tuple | dict)
    }
    small = {k: v for k, v in small.items() if k in names and k not in settings}
    return kind(**{**small, **settings})


def hugging_face(
    label: str, model: str, config: str, inputs: Callable[[], Any], **settings: Any
) -> None:
    def build() -> Built:
        library = importlib.import_module("transformers")
        library.logging.set_verbosity_error()
        net = getattr(library, model)(_config(library, config, settings))
        return net.eval(), inputs()

    ARCHITECTURES[f"transformers/{label}"] = build


def _text() -> dict[str, Any]:
    return {"input_ids": ids()}


def _pixels() -> dict[str, Any]:
    return {"pixel_values": image()}


def _both() -> dict[str, Any]:
    return {"input_ids": ids(), "decoder_input_ids": ids(5)}


def _sound() -> dict[str, Any]:
    return {"input_values": torch.randn(2, 4000)}


for label, model, config, settings in (
    ("bert", "BertForSequenceClassification", "BertConfig", {}),
    ("bert-mlm", "BertForMaskedLM", "BertConfig", {}),
    ("roberta", "RobertaForMaskedLM", "RobertaConfig", {}),
    ("distilbert", "DistilBertForSequenceClassification", "DistilBertConfig", {}),
    ("albert", "AlbertModel", "AlbertConfig", {}),
    ("electra", "ElectraForPreTraining", "ElectraConfig", {}),
    ("deberta-v2", "DebertaV2Model", "DebertaV2Config", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    ("mpnet", "MPNetModel", "MPNetConfig", {}),
    ("xlnet", "XLNetLMHeadModel", "XLNetConfig", {}),
    ("xlm-roberta", "XLMRobertaModel", "XLMRobertaConfig", {}),
    ("longformer", "LongformerModel", "LongformerConfig", {}),
    ("big-bird", "BigBirdModel", "BigBirdConfig", {"attention_type": "original_full"}),
    ("funnel", "FunnelBaseModel", "FunnelConfig", {"block_sizes": [1, 1]}),
    ("convbert", "ConvBertModel", "ConvBertConfig", {}),
    ("squeezebert", "SqueezeBertModel", "SqueezeBertConfig", {"embedding_size": 32, "q_groups": 2, "k_groups": 2, "v_groups": 2, "post_attention_groups": 1, "intermediate_groups": 2, "output_groups": 2}),
    ("mobilebert", "MobileBertModel", "MobileBertConfig", {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}),
    ("fnet", "FNetModel", "FNetConfig", {}),
    ("modernbert", "ModernBertForMaskedLM", "ModernBertConfig", {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}),
    ("gpt2", "GPT2LMHeadModel", "GPT2Config", {}),
    ("gpt-neo", "GPTNeoForCausalLM", "GPTNeoConfig", {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4}),
    ("gpt-neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", {}),
    ("gptj", "GPTJForCausalLM", "GPTJConfig", {"rotary_dim": 4}),
    ("gpt-bigcode", "GPTBigCodeForCausalLM", "GPTBigCodeConfig", {}),
    ("opt", "OPTForCausalLM", "OPTConfig", {"word_embed_proj_dim": 32}),
    ("bloom", "BloomForCausalLM", "BloomConfig", {}),
    ("falcon", "FalconForCausalLM", "FalconConfig", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("mpt", "MptForCausalLM", "MptConfig", {}),
    ("codegen", "CodeGenForCausalLM", "CodeGenConfig", {"rotary_dim": 4}),
    ("llama", "LlamaForCausalLM", "LlamaConfig", {}),
    ("mistral", "MistralForCausalLM", "MistralConfig", {}),
    ("mixtral", "MixtralForCausalLM", "MixtralConfig", {"num_local_experts": 4}),
    ("qwen2", "Qwen2ForCausalLM", "Qwen2Config", {}),
    ("qwen2-moe", "Qwen2MoeForCausalLM", "Qwen2MoeConfig", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1}),
    ("qwen3", "Qwen3ForCausalLM", "Qwen3Config", {}),
    ("gemma", "GemmaForCausalLM", "GemmaConfig", {}),
    ("gemma2", "Gemma2ForCausalLM", "Gemma2Config", {}),
    ("phi", "PhiForCausalLM", "PhiConfig", {}),
    ("phi3", "Phi3ForCausalLM", "Phi3Config", {}),
    ("olmo", "OlmoForCausalLM", "OlmoConfig", {}),
    ("olmo2", "Olmo2ForCausalLM", "Olmo2Config", {}),
    ("olmoe", "OlmoeForCausalLM", "OlmoeConfig", {"num_experts": 4, "num_experts_per_tok": 2}),
    ("stablelm", "StableLmForCausalLM", "StableLmConfig", {}),
    ("starcoder2", "Starcoder2ForCausalLM", "Starcoder2Config", {}),
    ("cohere", "CohereForCausalLM", "CohereConfig", {}),
    ("granite", "GraniteForCausalLM", "GraniteConfig", {}),
    ("nemotron", "NemotronForCausalLM", "NemotronConfig", {}),
    ("glm", "GlmForCausalLM", "GlmConfig", {}),
    ("dbrx", "DbrxForCausalLM", "DbrxConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2, "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2}, "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}}),
    ("deepseek-v3", "DeepseekV3ForCausalLM", "DeepseekV3Config", {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "num_key_value_heads": 4, "head_dim": 4}),
    ("mamba", "MambaForCausalLM", "MambaConfig", {"state_size": 4}),
    ("mamba2", "Mamba2ForCausalLM", "Mamba2Config", {"state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8}),
    ("rwkv", "RwkvForCausalLM", "RwkvConfig", {"attention_hidden_size": 32}),
    ("jamba", "JambaForCausalLM", "JambaConfig", {"use_mamba_kernels": False, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 4}),
    ("recurrent-gemma", "RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", {"lru_width": 32, "num_hidden_layers": 3, "attention_window_size": 16, "num_key_value_heads": 1}),
    ("xlm", "XLMModel", "XLMConfig", {}),
    ("ctrl", "CTRLLMHeadModel", "CTRLConfig", {"dff": 48}),
    ("openai-gpt", "OpenAIGPTLMHeadModel", "OpenAIGPTConfig", {}),
    ("canine", "CanineModel", "CanineConfig", {"local_transformer_stride": 4, "downsampling_rate": 4, "upsampling_kernel_size": 4, "num_hash_functions": 4}),
    ("reformer", "ReformerModel", "ReformerConfig", {"attn_layers": ["local", "lsh"], "axial_pos_shape": [4, 4], "axial_pos_embds_dim": [16, 16], "feed_forward_size": 48, "attention_head_size": 8, "hash_seed": 0, "num_buckets": 2, "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "is_decoder": True}),
):  # fmt: skip
    length = 16 if label in ("reformer", "canine", "longformer", "funnel") else 7
    hugging_face(label, model, config, lambda n=length: {"input_ids": ids(n)}, **settings)

for label, model, config in (
    ("t5", "T5ForConditionalGeneration", "T5Config"),
    ("flan-t5-gated", "T5ForConditionalGeneration", "T5Config"),
    ("mt5", "MT5ForConditionalGeneration", "MT5Config"),
    ("bart", "BartForConditionalGeneration", "BartConfig"),
    ("mbart", "MBartForConditionalGeneration", "MBartConfig"),
    ("pegasus", "PegasusForConditionalGeneration", "PegasusConfig"),
    ("marian", "MarianMTModel", "MarianConfig"),
    ("m2m-100", "M2M100ForConditionalGeneration", "M2M100Config"),
    ("blenderbot", "BlenderbotForConditionalGeneration", "BlenderbotConfig"),
    ("led", "LEDForConditionalGeneration", "LEDConfig"),
    ("prophetnet", "ProphetNetForConditionalGeneration", "ProphetNetConfig"),
    ("switch-transformers", "SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig"),
):  # fmt: skip
    extra: dict[str, Any] = {}
    if label == "flan-t5-gated":
        extra = {"feed_forward_proj": "gated-gelu"}
    if label == "switch-transformers":
        extra = {"num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    if label == "prophetnet":
        extra = {"num_encoder_layers": 2, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4}  # fmt: skip
    if label == "led":
        extra = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64, "attention_window": 4}  # fmt: skip
    hugging_face(label, model, config, _both, **extra)

_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
for label, model, config, settings in (
    ("vit", "ViTForImageClassification", "ViTConfig", {}),
    ("deit", "DeiTForImageClassification", "DeiTConfig", {}),
    ("beit", "BeitForImageClassification", "BeitConfig", {"use_relative_position_bias": True, "layer_scale_init_value": 0.1}),
    ("dinov2", "Dinov2Model", "Dinov2Config", {}),
    ("swin", "SwinForImageClassification", "SwinConfig", {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}),
    ("swinv2", "Swinv2ForImageClassification", "Swinv2Config", {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}),
    ("resnet", "ResNetForImageClassification", "ResNetConfig", {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2]}),
    ("convnext", "ConvNextForImageClassification", "ConvNextConfig", {"patch_size": 4, **_STAGES}),
    ("convnextv2", "ConvNextV2ForImageClassification", "ConvNextV2Config", {"patch_size": 4, **_STAGES}),
    ("regnet", "RegNetForImageClassification", "RegNetConfig", {"embedding_size": 8, "groups_width": 8, **_STAGES}),
    ("efficientnet", "EfficientNetForImageClassification", "EfficientNetConfig", {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}),
    ("mobilenet-v1", "MobileNetV1ForImageClassification", "MobileNetV1Config", {"depth_multiplier": 0.25}),
    ("mobilenet-v2", "MobileNetV2ForImageClassification", "MobileNetV2Config", {"depth_multiplier": 0.25}),
    ("mobilevit", "MobileViTForImageClassification", "MobileViTConfig", {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32], "patch_size": 2}),
    ("poolformer", "PoolFormerForImageClassification", "PoolFormerConfig", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "patch_size": 16}),
    ("pvt", "PvtForImageClassification", "PvtConfig", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]}),
    ("segformer", "SegformerForSemanticSegmentation", "SegformerConfig", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 16}),
    ("levit", "LevitForImageClassification", "LevitConfig", {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1], "key_dim": [4, 4, 4], "patch_size": 16}),
    ("bit", "BitForImageClassification", "BitConfig", {"embedding_size": 8, "num_groups": 4, **_STAGES}),
    ("focalnet", "FocalNetForImageClassification", "FocalNetConfig", {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "hidden_sizes": [8, 16], "focal_levels": [2, 2], "focal_windows": [3, 3]}),
    ("dpt", "DPTForDepthEstimation", "DPTConfig", {"patch_size": 16, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8, "is_hybrid": False}),
    ("vit-mae", "ViTMAEForPreTraining", "ViTMAEConfig", {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 24}),
    ("yolos", "YolosForObjectDetection", "YolosConfig", {"num_detection_tokens": 4, "image_size": [32, 32]}),
    ("vitdet", "VitDetModel", "VitDetConfig", {}),
    ("hiera", "HieraForImageClassification", "HieraConfig", {"embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 4], "image_size": [64, 64], "query_stride": [2, 2], "num_query_pool": 2, "masked_unit_size": [4, 4], "patch_size": [7, 7], "patch_stride": [4, 4]}),
):  # fmt: skip
    size = 64 if label in ("levit", "hiera", "mobilevit", "efficientnet", "segformer") else 32
    hugging_face(label, model, config, lambda s=size: {"pixel_values": image(s)}, **settings)

_CONV = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}  # fmt: skip
for label, model, config, settings in (
    ("wav2vec2", "Wav2Vec2ForCTC", "Wav2Vec2Config", _CONV),
    ("hubert", "HubertForCTC", "HubertConfig", _CONV),
    ("wavlm", "WavLMModel", "WavLMConfig", _CONV),
    ("sew", "SEWModel", "SEWConfig", {**_CONV, "squeeze_factor": 2}),
    ("data2vec-audio", "Data2VecAudioModel", "Data2VecAudioConfig", {**_CONV, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5}),
):  # fmt: skip
    hugging_face(label, model, config, _sound, **settings)

hugging_face("whisper", "WhisperForConditionalGeneration", "WhisperConfig",
             lambda: {"input_features": torch.randn(1, 80, 40), "decoder_input_ids": ids(5, 1)},
             max_source_positions=20, max_target_positions=20)  # fmt: skip
hugging_face("speech-to-text", "Speech2TextForConditionalGeneration", "Speech2TextConfig",
             lambda: {"input_features": torch.randn(1, 40, 80), "decoder_input_ids": ids(5, 1)},
             conv_channels=16, max_source_positions=40, max_target_positions=20)  # fmt: skip
hugging_face("audio-spectrogram", "ASTForAudioClassification", "ASTConfig",
             lambda: {"input_values": torch.randn(2, 32, 32)},
             max_length=32, num_mel_bins=32, frequency_stride=8, time_stride=8)  # fmt: skip
hugging_face("vits", "VitsModel", "VitsConfig", lambda: {"input_ids": ids(6, 1)},
             upsample_initial_channel=16, upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8],
             resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]], flow_size=16,
             spectrogram_bins=17, prior_encoder_num_wavenet_layers=2,
             posterior_encoder_num_wavenet_layers=2, use_stochastic_duration_prediction=False,
             num_attention_heads=2, ffn_dim=48)  # fmt: skip
hugging_face("encodec", "EncodecModel", "EncodecConfig", lambda: {"input_values": torch.randn(1, 1, 640)},
             num_filters=4, upsampling_ratios=[4, 2], hidden_size=16, codebook_size=16,
             codebook_dim=16)  # fmt: skip
hugging_face("speecht5-hifigan", "SpeechT5HifiGan", "SpeechT5HifiGanConfig",
             lambda: {"spectrogram": torch.randn(1, 8, 80)},
             upsample_initial_channel=16, upsample_rates=[2, 2], upsample_kernel_sizes=[4, 4],
             resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]])  # fmt: skip


@architecture("transformers/clip")
def _clip() -> Built:
    library = importlib.import_module("transformers")
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99, "eos_token_id": 2}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}  # fmt: skip
    config = library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    return library.CLIPModel(config).eval(), {"input_ids": ids(), "pixel_values": image()}


@architecture("transformers/siglip")
def _siglip() -> Built:
    library = importlib.import_module("transformers")
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99, "projection_size": 32}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}  # fmt: skip
    config = library.SiglipConfig(text_config=text, vision_config=vision)
    return library.SiglipModel(config).eval(), {"input_ids": ids(), "pixel_values": image()}


@architecture("transformers/perceiver")
def _perceiver() -> Built:
    library = importlib.import_module("transformers")
    config = library.PerceiverConfig(num_latents=6, d_latents=16, d_model=32, num_blocks=1, num_self_attends_per_block=2, num_self_attention_heads=2, num_cross_attention_heads=2, vocab_size=99, max_position_embeddings=16)  # fmt: skip
    return library.PerceiverForMaskedLM(config).eval(), {"inputs": ids(16)}


@architecture("transformers/detr-like (conditional queries)")
def _mask_former() -> Built:
    library = importlib.import_module("transformers")
    backbone = library.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], out_features=["stage4"])  # fmt: skip
    config = library.DetrConfig(backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=5)  # fmt: skip
    return library.DetrForObjectDetection(config).eval(), {"pixel_values": image(64)}


@architecture("transformers/time-series-patchtst")
def _patchtst() -> Built:
    library = importlib.import_module("transformers")
    config = library.PatchTSTConfig(num_input_channels=2, context_length=32, patch_length=8, patch_stride=8, d_model=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, prediction_length=4)  # fmt: skip
    return library.PatchTSTForPrediction(config).eval(), {"past_values": torch.randn(2, 32, 2)}


def _import_rest() -> None:
    importlib.import_module("more_architectures")
    importlib.import_module("shrunk_architectures")


def architectures() -> Iterator[tuple[str, Callable[[], Built]]]:
    """Every architecture of every library, by name."""
    _import_rest()
    yield from ARCHITECTURES.items()
