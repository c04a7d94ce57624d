"""Every command on a BERT, a ResNet and a Llama built from transformers' configurations."""

import pytest

pytest.importorskip("transformers")

FILE = """
import torch
from transformers import (
    BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM,
    ResNetConfig, ResNetForImageClassification,
)


def bert():
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=64, num_labels=3)
    return BertForSequenceClassification(config), {"input_ids": ids()}


def resnet():
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2],
                          layer_type="basic", num_labels=3)
    return ResNetForImageClassification(config), {"pixel_values": images()}


def llama():
    config = LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=64,
                         num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    return LlamaForCausalLM(config), {"input_ids": ids()}


def ids():
    return torch.randint(0, 50, (32, 8), generator=torch.Generator().manual_seed(0))


def images():
    return torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def labels():
    return torch.randint(0, 3, (32,), generator=torch.Generator().manual_seed(1))


def bert_batch():
    return {"input_ids": ids()}, labels()


def resnet_batch():
    return {"pixel_values": images()}, labels()


def llama_batch():
    return {"input_ids": ids()}, ids()


def bert_data():
    return ids(), labels()


def resnet_data():
    return images(), labels()


def llama_data():
    return ids(), ids()
"""
MODELS = ("bert", "resnet", "llama")


@pytest.fixture
def architectures(tmp_path):
    path = tmp_path / "architectures.py"
    path.write_text(FILE)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_plan_init_check_adopt(fanin_command, architectures, tmp_path, name):
    target = f"{architectures}:{name}"
    status, out, err = fanin_command("plan", target)
    assert status == 0, err
    assert "unknown" not in out
    weights = tmp_path / "w.safetensors"
    status, out, err = fanin_command("init", target, "--out", weights)
    assert status == 0, err
    arguments = ("check", target, "--data", f"{architectures}:{name}_batch", "--recipe", "auto")
    status, out, err = fanin_command(*arguments)
    assert status == 0, out + err
    status, out, err = fanin_command("adopt", target, weights)
    assert status == 0, err
    # What was saved was whole: nothing is left to initialise.
    assert "initialised" not in out.replace("0 initialised", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_compare(fanin_command, architectures, tmp_path, name):
    status, out, err = fanin_command(
        "compare", f"{architectures}:{name}", "--data", f"{architectures}:{name}_data",
        "--recipes", "shipped,auto", "--seeds", "2", "--steps", "8", "--lr", "0.01",
    )  # fmt: skip
    assert status == 0, err
    assert "auto" in out
    assert (tmp_path / "fanin-study" / "report.html").exists()
