"""Transfer: the backbone keeps its weights byte for byte, only the new head is initialised.

A ResNet and a BERT, built from configurations (no download): the "pretrained" model is the one
whose state we save, the new model has another number of classes.
"""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

import fanin


def resnet(classes: int) -> torch.nn.Module:
    config = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        layer_type="basic",
        num_labels=classes,
    )
    return ResNetForImageClassification(config)


def bert(classes: int) -> torch.nn.Module:
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=classes,
    )
    return BertForSequenceClassification(config)


MODELS = {
    "ResNet": (resnet, {"pixel_values": torch.zeros(2, 3, 32, 32)}),
    "BERT": (bert, {"input_ids": torch.zeros(2, 8, dtype=torch.long)}),
}


def main() -> None:
    for name, (build, inputs) in MODELS.items():
        for seed in range(3):
            torch.manual_seed(seed)
            pretrained = build(1000).state_dict()
            model = build(7)
            ledger = fanin.adopt(model, pretrained, inputs, seed=seed)
            new = [key for key, entry in ledger.items() if entry.status == "initialised"]
            assert new, "the new head must be initialised"
            assert all("classifier" in key for key in new), new
            for key, tensor in model.state_dict().items():
                if key not in new:
                    assert torch.equal(tensor, pretrained[key]), key
        kept = sum(entry.status == "loaded" for entry in ledger.values())
        print(f"{name}: {kept} tensors loaded, byte for byte; initialised: {', '.join(new)}")


if __name__ == "__main__":
    main()
