"""Classic faults, each with the codes that must be among its findings."""

import copy

import torch
from healthy_models import (
    TinyViT,
    cnn_with_batch_norm,
    gpt2,
    he,
    images,
    lstm,
    relu_mlp,
    tokens,
    vectors,
)
from torch import nn


def plain(depth, activation, width=64, std=None, scheme=None):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    for module in model.modules():
        if isinstance(module, nn.Linear) and (std is not None or scheme is not None):
            if std is not None:
                nn.init.normal_(module.weight, std=std)
            else:
                scheme(module.weight)
            nn.init.zeros_(module.bias)
    return model


def all_zeros():
    model = plain(3, nn.Tanh, scheme=nn.init.zeros_)
    return model, *vectors()


def all_ones():
    model = plain(3, nn.Tanh, scheme=nn.init.ones_)
    return model, *vectors()


def ones_with_random_biases():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    for layer in (model[0], model[2]):
        nn.init.ones_(layer.weight)
    return model, *vectors()


def constant_hidden_layer():
    model = he(plain(3, nn.ReLU))
    nn.init.constant_(model[2].weight, 0.05)
    nn.init.constant_(model[4].weight, 0.05)
    return model, *vectors()


def zeros_in_a_cnn():
    model, x, y = cnn_with_batch_norm()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.weight)
    return model, x, y


def small_normal_deep():
    return plain(30, nn.ReLU, std=0.01), *vectors()


def uniform_100_layers():
    model = plain(100, nn.ReLU, scheme=lambda w: nn.init.uniform_(w, -1, 1))
    return model, *vectors()


def uniform_10_layers():
    model = plain(10, nn.ReLU, scheme=lambda w: nn.init.uniform_(w, -1, 1))
    return model, *vectors()


def torch_default_deep():
    return plain(30, nn.ReLU, width=256), torch.randn(256, 256), torch.arange(256) % 10


def xavier_relu_deep():
    return plain(30, nn.ReLU, scheme=nn.init.xavier_normal_), *vectors()


def he_tanh_deep():
    model = plain(30, nn.Tanh, width=128, scheme=nn.init.kaiming_normal_)
    return model, torch.randn(256, 128), torch.arange(256) % 10


def sigmoid_deep():
    return plain(10, nn.Sigmoid, scheme=nn.init.xavier_normal_), *vectors()


def chaotic_tanh():
    base = torch.randn(1, 64)
    model = plain(20, nn.Tanh, std=3 / 8)
    return model, base + 0.5 * torch.randn(256, 64), torch.arange(256) % 10


def saturated_tanh():
    return plain(2, nn.Tanh, std=1.0), *vectors()


def saturated_by_pixels():
    model = plain(3, nn.Tanh, scheme=nn.init.xavier_normal_)
    return model, torch.randint(0, 256, (256, 64)).float(), torch.arange(256) % 10


def dead_relu():
    model = he(plain(3, nn.ReLU))
    nn.init.constant_(model[2].bias, -10.0)
    return model, *vectors()


def dead_conv():
    model = he(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 196, 10)))
    nn.init.constant_(model[0].bias, -20.0)
    return model, *images()


def nan_weight():
    model, x, y = relu_mlp()
    with torch.no_grad():
        model[4].weight[0, 0] = float("nan")
    return model, x, y


def infinite_gradient():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)
            nn.init.zeros_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, x):
            return self.layer(x).square().sum(1, keepdim=True).sqrt()

    return Net(), torch.randn(16, 8), torch.randn(16, 1)


def huge_head():
    model, x, y = relu_mlp()
    nn.init.normal_(model[-1].weight)
    return model, x, y


def tied_unit_embedding():
    model, inputs, _ = gpt2()
    nn.init.normal_(model.transformer.wte.weight)
    return model, inputs, None


def transformer_encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 4), nn.Linear(32, 10))
    x, _ = torch.randn(4, 12, 32), None
    return model, x, torch.randint(0, 10, (4, 12))


def copied_blocks():
    block = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU())
    model = nn.Sequential(*[copy.deepcopy(block) for _ in range(4)], nn.Linear(64, 10))
    return model, *vectors()


def two_zero_matrices():
    model = he(plain(3, nn.ReLU))
    nn.init.zeros_(model[4].weight)
    nn.init.zeros_(model[6].weight)
    return model, *vectors()


def padding_overwritten():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(211, 32, padding_idx=0)
            self.head = nn.Linear(32, 211)
            nn.init.normal_(self.embed.weight)

        def forward(self, ids):
            return self.head(self.embed(ids))

    return Net(), *tokens()


def peaked_attention():
    model = TinyViT()
    for block in model.blocks:
        nn.init.normal_(block.attention.in_proj_weight, std=1.0)
    return model, *images()


def attention_without_skips():
    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.norm = nn.LayerNorm(d)
            self.attention = nn.MultiheadAttention(d, 4, batch_first=True)

        def forward(self, x):
            y = self.norm(x)
            return self.attention(y, y, y, need_weights=False)[0]

    model = nn.Sequential(*[Block(32) for _ in range(6)], nn.LayerNorm(32), nn.Linear(32, 10))
    return model, torch.randn(4, 16, 32), torch.randint(0, 10, (4, 16))


def batch_norm_plain_deep():
    layers = [m for _ in range(80) for m in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    model = he(nn.Sequential(*layers, nn.Linear(64, 10)))
    nn.init.normal_(model[-1].weight, std=0.03)
    return model, *vectors()


def residual_without_norm_or_scale():
    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.branch = he(nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)))

        def forward(self, x):
            return x + 2 * self.branch(x)

    return nn.Sequential(*[Block(64) for _ in range(10)], nn.Linear(64, 10)), *vectors()


def unused_layer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.forgotten = nn.Linear(64, 10), nn.Linear(4, 4)

        def forward(self, x):
            return self.body(x)

    return Net(), *vectors()


def every_parameter_from_one_normal():
    model, x, y = cnn_with_batch_norm()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    return model, x, y


def lstm_with_default_biases():
    model, x, y = lstm()
    return model, x, y


def lstm_with_all_biases_one():
    model, x, y = lstm()
    for name, parameter in model.lstm.named_parameters():
        if "bias" in name:
            nn.init.ones_(parameter)
    return model, x, y


def rare_targets():
    model, x, _ = relu_mlp()
    model[-1] = nn.Linear(64, 1)
    nn.init.zeros_(model[-1].weight)
    target = torch.zeros(256, 1, dtype=torch.bool)
    target[:3] = True
    return model, x, target


def equal_stacked_experts():
    class Experts(nn.Module):
        def __init__(self, experts=4, d=32):
            super().__init__()
            self.router = nn.Linear(d, experts)
            self.up = nn.Parameter(torch.randn(experts, d, d) / d**0.5)
            self.down = nn.Parameter((torch.randn(1, d, d) / d**0.5).repeat(experts, 1, 1))
            self.head = nn.Linear(d, 10)

        def forward(self, x):
            gates = torch.softmax(self.router(x), -1)
            hidden = torch.relu(torch.einsum("nd,edf->enf", x, self.up))
            out = torch.einsum("enf,efd->end", hidden, self.down)
            return self.head(torch.einsum("ne,end->nd", gates, out))

    return Experts(), *vectors(features=32)


FAULTY = {
    all_zeros: {"FAN201"},
    all_ones: {"FAN201"},
    ones_with_random_biases: {"FAN201"},
    constant_hidden_layer: {"FAN201"},
    zeros_in_a_cnn: {"FAN201"},
    small_normal_deep: {"FAN101"},
    uniform_100_layers: {"FAN107"},
    uniform_10_layers: {"FAN102", "FAN104"},
    torch_default_deep: {"FAN103", "FAN111", "FAN303"},
    xavier_relu_deep: {"FAN101", "FAN301"},
    he_tanh_deep: {"FAN302"},
    sigmoid_deep: {"FAN103", "FAN111"},
    chaotic_tanh: {"FAN104", "FAN116"},
    saturated_tanh: {"FAN110"},
    saturated_by_pixels: {"FAN110", "FAN114"},
    dead_relu: {"FAN109"},
    dead_conv: {"FAN109"},
    nan_weight: {"FAN106", "FAN107"},
    infinite_gradient: {"FAN108"},
    huge_head: {"FAN401", "FAN402"},
    tied_unit_embedding: {"FAN401", "FAN402"},
    transformer_encoder: {"FAN203"},
    copied_blocks: {"FAN203"},
    two_zero_matrices: {"FAN105", "FAN201"},
    padding_overwritten: {"FAN304"},
    peaked_attention: {"FAN113"},
    attention_without_skips: {"FAN112"},
    batch_norm_plain_deep: {"FAN104"},
    residual_without_norm_or_scale: {"FAN102"},
    unused_layer: {"FAN115"},
    every_parameter_from_one_normal: {"FAN305"},
    lstm_with_default_biases: {"FAN306"},
    lstm_with_all_biases_one: {"FAN306"},
    rare_targets: {"FAN403"},
    equal_stacked_experts: {"FAN202"},
}
