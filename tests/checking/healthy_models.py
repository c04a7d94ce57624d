"""Models whose start is healthy, or whose oddities are meant: no rule may warn about them."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


def he(model, gain_squared=2.0):
    """He's (or another gain's) weights and zero biases, in place."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=(gain_squared / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def small_head(layer):
    nn.init.normal_(layer.weight, std=0.3 / layer.in_features**0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def images(n=32, classes=10, size=16, channels=3):
    return torch.randn(n, channels, size, size), torch.arange(n) % classes


def vectors(n=256, features=64, classes=10):
    return torch.randn(n, features), torch.arange(n) % classes


def tokens(n=4, length=24, vocabulary=211):
    ids = torch.randint(0, vocabulary, (n, length))
    return ids, ids.roll(-1, 1)


def relu_mlp():
    layers = [m for _ in range(8) for m in (nn.Linear(64, 64), nn.ReLU())]
    model = he(nn.Sequential(*layers, nn.Linear(64, 10)))
    small_head(model[-1])
    return model, *vectors()


def deep_relu_mlp():
    layers = [m for _ in range(20) for m in (nn.Linear(256, 256), nn.ReLU())]
    model = he(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), *layers, nn.Linear(256, 10)))
    small_head(model[-1])
    return model, *vectors()


def tanh_mlp():
    layers = [m for _ in range(20) for m in (nn.Linear(64, 64), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    for module in model[::2]:
        nn.init.orthogonal_(module.weight)
        nn.init.zeros_(module.bias)
    small_head(model[-1])
    return model, *vectors()


def linear_classifier():
    return small_head(nn.Linear(64, 10)), *vectors()


def two_layer_default():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), *vectors()


def zero_head_mlp():
    model, x, y = relu_mlp()
    nn.init.zeros_(model[-1].weight)
    return model, x, y


class BasicBlock(nn.Module):
    def __init__(self, channels, stride=1, out=None, zero_last=False):
        super().__init__()
        out = out or channels
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.skip = nn.Identity()
        if stride != 1 or out != channels:
            self.skip = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )
        if zero_last:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.skip(x))


def _resnet(zero_last):
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        BasicBlock(32, zero_last=zero_last),
        BasicBlock(32, zero_last=zero_last),
        BasicBlock(32, 2, 64, zero_last=zero_last),
        BasicBlock(64, zero_last=zero_last),
        BasicBlock(64, 2, 128, zero_last=zero_last),
        BasicBlock(128, zero_last=zero_last),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model, *images()


def resnet():
    return _resnet(False)


def resnet_zero_gamma():
    return _resnet(True)


def cnn_with_batch_norm():
    channels, layers = 3, []
    for out in (16, 32, 64):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
        channels = out
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4, 10))
    return model, *images()


class PreNormBlock(nn.Module):
    def __init__(self, d, heads=4, scale=None):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = nn.MultiheadAttention(d, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        if scale is not None:
            self.scale1 = nn.Parameter(torch.full((d,), scale))
            self.scale2 = nn.Parameter(torch.full((d,), scale))

    def forward(self, x):
        y = self.norm1(x)
        a = self.attention(y, y, y, need_weights=False)[0]
        x = x + (a * self.scale1 if hasattr(self, "scale1") else a)
        m = self.mlp(self.norm2(x))
        return x + (m * self.scale2 if hasattr(self, "scale2") else m)


class TinyViT(nn.Module):
    def __init__(self, depth=6, d=64, scale=None):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, d))
        self.position = nn.Parameter(torch.randn(1, 17, d) * 0.02)
        self.blocks = nn.Sequential(*[PreNormBlock(d, scale=scale) for _ in range(depth)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, 10)
        nn.init.trunc_normal_(self.cls, std=0.02)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit():
    return TinyViT(), *images()


def layer_scale_vit():
    return TinyViT(scale=1e-6), *images()


def layer_scale_cait():
    return TinyViT(depth=12, scale=1e-4), *images()


class LoRALinear(nn.Module):
    def __init__(self, base, rank=4):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


def lora():
    model, x, y = relu_mlp()
    for index in range(0, 16, 2):
        model[index] = LoRALinear(model[index])
    return model, x, y


class FixupBlock(nn.Module):
    def __init__(self, channels, blocks):
        super().__init__()
        self.b1a, self.b1b, self.b2a, self.b2b = (nn.Parameter(torch.zeros(1)) for _ in range(4))
        self.scale = nn.Parameter(torch.ones(1))
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        nn.init.normal_(self.conv1.weight, std=(2 / (9 * channels)) ** 0.5 * blocks**-0.5)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x):
        out = F.relu(self.conv1(x + self.b1a) + self.b1b)
        return F.relu(self.conv2(out + self.b2a) * self.scale + self.b2b + x)


def fixup():
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1, bias=False),
        nn.ReLU(),
        *[FixupBlock(32, 6) for _ in range(6)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    nn.init.kaiming_normal_(model[0].weight)
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return model, *images()


class ReZeroBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(()))
        self.branch = he(nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)))

    def forward(self, x):
        return x + self.alpha * self.branch(x)


def rezero():
    model = nn.Sequential(*[ReZeroBlock(64) for _ in range(10)], nn.Linear(64, 10))
    small_head(model[-1])
    return model, *vectors()


class DiTBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm1 = nn.LayerNorm(d, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(d, elementwise_affine=False)
        self.attention = nn.MultiheadAttention(d, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        nn.init.zeros_(self.modulation[1].weight)
        nn.init.zeros_(self.modulation[1].bias)

    def forward(self, x, c):
        s1, b1, g1, s2, b2, g2 = self.modulation(c)[:, None].chunk(6, -1)
        y = self.norm1(x) * (1 + s1) + b1
        x = x + g1 * self.attention(y, y, y, need_weights=False)[0]
        return x + g2 * self.mlp(self.norm2(x) * (1 + s2) + b2)


class TinyDiT(nn.Module):
    def __init__(self, d=64, depth=4):
        super().__init__()
        self.patch = nn.Linear(12, d)
        self.time = nn.Sequential(nn.Linear(32, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(DiTBlock(d) for _ in range(depth))
        self.norm = nn.LayerNorm(d, elementwise_affine=False)
        self.final = nn.Linear(d, 12)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(self, x, t):
        frequencies = torch.exp(-torch.arange(16) / 2.0)
        angles = t[:, None] * frequencies
        c = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        x = self.patch(x)
        for block in self.blocks:
            x = block(x, c)
        return self.final(self.norm(x))


def dit():
    x = torch.randn(16, 16, 12)
    return TinyDiT(), (x, torch.rand(16) * 100), torch.randn(16, 16, 12)


class LSTMClassifier(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.embed = nn.Embedding(211, 32)
        self.lstm = nn.LSTM(32, 64, num_layers=layers, batch_first=True)
        self.head = nn.Linear(64, 211)

    def forward(self, ids):
        return self.head(self.lstm(self.embed(ids))[0])


def lstm():
    return LSTMClassifier(), *tokens()


def gru_regression():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(8, 32, batch_first=True)
            self.head = nn.Linear(32, 1)

        def forward(self, x):
            return self.head(self.gru(x)[0][:, -1])

    return Net(), torch.randn(32, 12, 8), torch.randn(32, 1)


def siren():
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(30 * x)

    layers = [nn.Linear(2, 64), Sine()]
    nn.init.uniform_(layers[0].weight, -1 / 2, 1 / 2)
    for _ in range(3):
        layer = nn.Linear(64, 64)
        nn.init.uniform_(layer.weight, -((6 / 64) ** 0.5) / 30, (6 / 64) ** 0.5 / 30)
        layers += [layer, Sine()]
    return nn.Sequential(*layers, nn.Linear(64, 3)), torch.rand(256, 2) * 2 - 1, torch.rand(256, 3)


def swiglu_prenorm():
    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.norm = nn.RMSNorm(d)
            self.gate, self.up = nn.Linear(d, 2 * d), nn.Linear(d, 2 * d)
            self.down = nn.Linear(2 * d, d)

        def forward(self, x):
            y = self.norm(x)
            return x + self.down(F.silu(self.gate(y)) * self.up(y))

    model = nn.Sequential(nn.Linear(64, 64), *[Block(64) for _ in range(8)], nn.RMSNorm(64))
    model.append(nn.Linear(64, 10))
    return model, *vectors()


def squeeze_excite():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16)
            self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16)

        def forward(self, x):
            y = F.relu(self.bn(self.conv(x)))
            gate = torch.sigmoid(self.up(F.relu(self.down(y.mean((2, 3))))) * 10)
            return x + y * gate[:, :, None, None]

    model = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), Block(), Block())
    model = nn.Sequential(*model, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return model, *images()


def unet():
    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down1 = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.GroupNorm(4, 16), nn.SiLU())
            self.down2 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.GroupNorm(4, 32), nn.SiLU())
            self.up = nn.ConvTranspose2d(32, 16, 2, 2)
            self.out = nn.Conv2d(32, 3, 3, 1, 1)
            nn.init.zeros_(self.out.weight)

        def forward(self, x):
            a = self.down1(x)
            return self.out(torch.cat([a, self.up(self.down2(a))], 1))

    x = torch.randn(8, 3, 16, 16)
    return UNet(), x, torch.randn(8, 3, 16, 16)


def sparse_input():
    model = he(nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()))
    model.append(small_head(nn.Linear(64, 10)))
    x = F.one_hot(torch.randint(0, 512, (256,)), 512).float()
    return model, x, torch.arange(256) % 10


def frozen_backbone():
    model, x, y = resnet()
    for parameter in model[:-1].parameters():
        parameter.requires_grad_(False)
    return model, x, y


def autoencoder_binary():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64))
    return model, torch.randn(64, 64), torch.rand(64, 64) > 0.5


def untargeted():
    model, x, _ = cnn_with_batch_norm()
    return model, x, None


def identity_resnet_mlp():
    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.norm, self.inner, self.outer = nn.LayerNorm(d), nn.Linear(d, d), nn.Linear(d, d)
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

        def forward(self, x):
            return x + self.outer(F.gelu(self.inner(self.norm(x))))

    model = nn.Sequential(nn.Linear(64, 64), *[Block(64) for _ in range(6)], nn.LayerNorm(64))
    return model.append(nn.Linear(64, 10)), *vectors()


def dcgan_generator():
    model = nn.Sequential(
        nn.ConvTranspose2d(64, 32, 4, 1, 0, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    for module in model:
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)
    return model, torch.randn(32, 64, 1, 1), None


def _hf(build, **inputs):
    model = build()
    return model, inputs, None


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    ids, _ = tokens()
    config = GPT2Config(vocab_size=211, n_positions=64, n_embd=64, n_layer=4, n_head=4)
    return _hf(lambda: GPT2LMHeadModel(config), input_ids=ids, labels=ids)


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    ids, _ = tokens(16)
    config = BertConfig(
        vocab_size=211,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=3,
    )
    return _hf(
        lambda: BertForSequenceClassification(config),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=torch.arange(16) % 3,
    )


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    ids, _ = tokens()
    config = LlamaConfig(
        vocab_size=211,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return _hf(lambda: LlamaForCausalLM(config), input_ids=ids, labels=ids)


def vit_hf():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=16,
        patch_size=4,
        num_labels=10,
    )
    x, y = images()
    return _hf(lambda: ViTForImageClassification(config), pixel_values=x, labels=y)


def convnext():
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[16, 32, 64, 64], depths=[2, 2, 2, 2], num_labels=10)
    x, y = images(size=64)
    return _hf(lambda: ConvNextForImageClassification(config), pixel_values=x, labels=y)


def resnet_hf():
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[32, 64, 128, 128], depths=[2, 2, 2, 2], num_labels=10
    )
    x, y = images(size=64)
    return _hf(lambda: ResNetForImageClassification(config), pixel_values=x, labels=y)


def t5():
    from transformers import T5Config, T5ForConditionalGeneration

    ids, labels = tokens()
    config = T5Config(
        vocab_size=211,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=3,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return _hf(lambda: T5ForConditionalGeneration(config), input_ids=ids, labels=labels)


HEALTHY = [
    relu_mlp,
    deep_relu_mlp,
    tanh_mlp,
    linear_classifier,
    two_layer_default,
    zero_head_mlp,
    resnet,
    resnet_zero_gamma,
    cnn_with_batch_norm,
    vit,
    layer_scale_vit,
    layer_scale_cait,
    lora,
    fixup,
    rezero,
    dit,
    lstm,
    gru_regression,
    siren,
    swiglu_prenorm,
    squeeze_excite,
    unet,
    sparse_input,
    frozen_backbone,
    autoencoder_binary,
    untargeted,
    identity_resnet_mlp,
    dcgan_generator,
]
TRANSFORMERS = [gpt2, bert, llama, vit_hf, convnext, resnet_hf, t5]
