# ruff: noqa: E501 - one line of settings an architecture reads better than ten
"""Small models of torch itself, torch_geometric, diffusers and monai; see ``architectures``."""

import importlib
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from architectures import Built, architecture, ids, image
from torch import nn
from torch.nn.utils import parametrizations


@architecture("torch/mlp")
def _mlp() -> Built:
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 3)
    ), torch.randn(4, 8)


@architecture("torch/lenet")
def _lenet() -> Built:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 10),
    )
    return net, image(28, 1)


@architecture("torch/vgg")
def _vgg() -> Built:
    layers: list[nn.Module] = []
    width = 3
    for out in (8, 16, 32):
        layers += [
            nn.Conv2d(width, out, 3, padding=1),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        width = out
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10)
    ), image()


@architecture("torch/dcgan-generator")
def _dcgan() -> Built:
    net = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(True),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    return net, torch.randn(2, 16, 1, 1)


@architecture("torch/spectral-discriminator")
def _discriminator() -> Built:
    norm = parametrizations.spectral_norm
    net = nn.Sequential(
        norm(nn.Conv2d(3, 8, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(8, 16, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        norm(nn.Linear(1024, 1)),
    )
    return net, image()


@architecture("torch/wavenet-weight-norm")
def _wavenet() -> Built:
    class Block(nn.Module):
        def __init__(self, dilation: int) -> None:
            super().__init__()
            self.conv = parametrizations.weight_norm(
                nn.Conv1d(8, 16, 3, padding=dilation, dilation=dilation)
            )
            self.out = parametrizations.weight_norm(nn.Conv1d(8, 8, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.conv(x).chunk(2, 1)
            return x + self.out(torch.tanh(a) * torch.sigmoid(b))

    return nn.Sequential(
        nn.Conv1d(1, 8, 1), Block(1), Block(2), Block(4), nn.Conv1d(8, 1, 1)
    ), torch.randn(2, 1, 32)


for _kind in ("LSTM", "GRU", "RNN"):

    @architecture(f"torch/{_kind.lower()}-classifier")
    def _recurrent(kind: str = _kind) -> Built:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed = nn.Embedding(99, 8)
                self.core = getattr(nn, kind)(8, 12, 2, batch_first=True, bidirectional=True)
                self.head = nn.Linear(24, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(self.core(self.embed(x))[0][:, -1])

        return Net(), ids()


@architecture("torch/custom-lstm")
def _custom_lstm() -> Built:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wx = nn.Linear(6, 32)
            self.wh = nn.Linear(8, 32, bias=False)
            self.out = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = c = torch.zeros(x.shape[0], 8)
            for t in range(x.shape[1]):
                i, f, g, o = (self.wx(x[:, t]) + self.wh(h)).chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            return self.out(h)

    return Net(), torch.randn(2, 5, 6)


@architecture("torch/transformer")
def _transformer() -> Built:
    net = nn.Transformer(16, 4, 2, 2, 32, batch_first=True)
    return net, (torch.randn(2, 5, 16), torch.randn(2, 4, 16))


@architecture("torch/transformer-encoder-frozen-eval")
def _encoder() -> Built:
    layer = nn.TransformerEncoderLayer(
        16, 4, 32, batch_first=True, activation="gelu", norm_first=True
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval().requires_grad_(
        False
    ), torch.randn(2, 5, 16)


@architecture("torch/siren")
def _siren() -> Built:
    class Sine(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(30 * x)

    return nn.Sequential(
        nn.Linear(2, 32), Sine(), nn.Linear(32, 32), Sine(), nn.Linear(32, 1)
    ), torch.randn(9, 2)


@architecture("torch/densenet")
def _densenet() -> Built:
    class Dense(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm, self.conv = (
                nn.BatchNorm2d(width),
                nn.Conv2d(width, 4, 3, padding=1, bias=False),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        Dense(8),
        Dense(12),
        Dense(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(20, 5),
    ), image(8)


@architecture("torch/unet")
def _unet() -> Built:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (
                nn.Conv2d(3, 8, 3, padding=1),
                nn.Conv2d(8, 16, 3, 2, 1),
                nn.Conv2d(16, 16, 3, padding=1),
            )
            self.up, self.d, self.e = (
                nn.ConvTranspose2d(16, 8, 2, 2),
                nn.Conv2d(16, 8, 3, padding=1),
                nn.Conv2d(8, 1, 1),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = F.relu(self.a(x))
            deep = F.relu(self.c(F.relu(self.b(first))))
            return self.e(F.relu(self.d(torch.cat([first, self.up(deep)], 1))))

    return Net(), image(16)


@architecture("torch/squeeze-excite")
def _squeeze() -> Built:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
            self.down, self.up, self.head = (
                nn.Conv2d(16, 4, 1),
                nn.Conv2d(4, 16, 1),
                nn.Linear(16, 3),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.silu(self.norm(self.conv(x)))
            x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
            return self.head(x.mean((2, 3)))

    return Net(), image(8)


@architecture("torch/mixture-of-experts-einsum")
def _experts() -> Built:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(8, 4)
            self.w1, self.w2 = (
                nn.Parameter(torch.randn(4, 8, 16)),
                nn.Parameter(torch.randn(4, 16, 8)),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight, chosen = self.router(x).softmax(-1).topk(2)
            gate = torch.zeros(x.shape[0], 4).scatter(1, chosen, weight)
            h = F.gelu(torch.einsum("bi,eio->beo", x, self.w1))
            return x + torch.einsum("beo,eoi,be->bi", h, self.w2, gate)

    return Net(), torch.randn(5, 8)


@architecture("torch/lora")
def _lora() -> Built:
    class Lora(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a, self.b = (
                nn.Linear(base.in_features, 2, bias=False),
                nn.Linear(2, base.out_features, bias=False),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + 0.5 * self.b(self.a(F.dropout(x, 0.1, self.training)))

    return nn.Sequential(Lora(nn.Linear(8, 16)), nn.ReLU(), Lora(nn.Linear(16, 4))), torch.randn(
        3, 8
    )


@architecture("torch/rezero")
def _rezero() -> Built:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.alpha = nn.Linear(8, 8), nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.alpha * torch.relu(self.f(x))

    return nn.Sequential(nn.Linear(4, 8), Block(), Block(), nn.Linear(8, 2)), torch.randn(3, 4)


@architecture("torch/dit-block")
def _dit() -> Built:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attention = (
                nn.LayerNorm(16, elementwise_affine=False),
                nn.MultiheadAttention(16, 4, batch_first=True),
            )
            self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(16, 96))
            self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU("tanh"), nn.Linear(32, 16))

        def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            a, b, g, d, e, k = self.modulation(c)[:, None].chunk(6, -1)
            h = self.norm(x) * (1 + b) + a
            x = x + g * self.attention(h, h, h, need_weights=False)[0]
            return x + k * self.mlp(self.norm(x) * (1 + e) + d)

    return Block(), (torch.randn(2, 5, 16), torch.randn(2, 16))


@architecture("torch/mlp-mixer")
def _mixer() -> Built:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(16), nn.LayerNorm(16)
            self.tokens = nn.Sequential(nn.Linear(9, 12), nn.GELU(), nn.Linear(12, 9))
            self.channels = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.n2(x))

    return nn.Sequential(Block(), Block(), nn.Linear(16, 3)), torch.randn(2, 9, 16)


@architecture("torch/bilinear")
def _bilinear() -> Built:
    return nn.Bilinear(5, 6, 4), (torch.randn(3, 5), torch.randn(3, 6))


@architecture("torch/embedding-bag")
def _bag() -> Built:
    return nn.Sequential(nn.EmbeddingBag(50, 8, mode="mean"), nn.Linear(8, 3)), torch.arange(
        10
    ).reshape(2, 5)


def _graph() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, 8), torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 3]])


for _name, _settings in {
    "GCN": {}, "GAT": {"heads": 2}, "GraphSAGE": {}, "GIN": {}, "PNA": {"aggregators": ["mean", "max"], "scalers": ["identity"], "deg": torch.tensor([0, 4, 3])}, "EdgeCNN": {},
}.items():  # fmt: skip

    @architecture(f"torch_geometric/{_name}")
    def _geometric(name: str = _name, settings: dict[str, Any] = _settings) -> Built:
        library = importlib.import_module("torch_geometric.nn")
        return getattr(library, name)(
            8, 16, num_layers=2, out_channels=4, **settings
        ).eval(), _graph()


for _name, _arguments in {
    "GATv2Conv": (8, 4), "TransformerConv": (8, 4), "GatedGraphConv": (8, 2), "ChebConv": (8, 4, 3), "SGConv": (8, 4), "TAGConv": (8, 4), "ARMAConv": (8, 4), "GraphConv": (8, 4), "ResGatedGraphConv": (8, 4), "FeaStConv": (8, 4), "ClusterGCNConv": (8, 4), "LEConv": (8, 4), "GENConv": (8, 4),
}.items():  # fmt: skip

    @architecture(f"torch_geometric/{_name}")
    def _convolution(name: str = _name, arguments: tuple[int, ...] = _arguments) -> Built:
        library = importlib.import_module("torch_geometric.nn")
        return getattr(library, name)(*arguments).eval(), _graph()


@architecture("torch_geometric/SchNet")
def _schnet() -> Built:
    library = importlib.import_module("torch_geometric.nn")
    net = library.SchNet(hidden_channels=16, num_filters=16, num_interactions=2, num_gaussians=8)
    index = torch.tensor(
        [
            [a for a in range(5) for b in range(5) if a != b],
            [b for a in range(5) for b in range(5) if a != b],
        ]
    )

    class Graphed(nn.Module):
        def forward(self, source: torch.Tensor, batch: torch.Tensor) -> Any:
            return index, (source[index[0]] - source[index[1]]).norm(dim=-1)

    net.interaction_graph = Graphed()
    return net.eval(), (torch.tensor([6, 1, 1, 8, 6]), torch.randn(5, 3))


@architecture("diffusers/UNet2DModel")
def _unet2d() -> Built:
    library = importlib.import_module("diffusers")
    net = library.UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return net.eval(), (image(16), torch.tensor([3, 5]))


@architecture("diffusers/UNet2DConditionModel")
def _unet_condition() -> Built:
    library = importlib.import_module("diffusers")
    net = library.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=12,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    return net.eval(), {
        "sample": image(16, 4),
        "timestep": torch.tensor([3, 5]),
        "encoder_hidden_states": torch.randn(2, 4, 12),
    }


@architecture("diffusers/DiTTransformer2DModel")
def _dit_transformer() -> Built:
    library = importlib.import_module("diffusers")
    net = library.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        norm_num_groups=4,
        num_embeds_ada_norm=10,
    )
    return net.eval(), {
        "hidden_states": image(8, 4),
        "timestep": torch.tensor([1, 2]),
        "class_labels": torch.tensor([0, 1]),
    }


@architecture("diffusers/AutoencoderKL")
def _autoencoder() -> Built:
    library = importlib.import_module("diffusers")
    net = library.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    return net.eval(), image(16)


@architecture("diffusers/VQModel")
def _vq() -> Built:
    library = importlib.import_module("diffusers")
    return library.VQModel(
        block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=16
    ).eval(), image(16)


@architecture("diffusers/SD3Transformer2DModel")
def _sd3() -> Built:
    library = importlib.import_module("diffusers")
    net = library.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=10,
        out_channels=4,
        pos_embed_max_size=16,
    )
    return net.eval(), {
        "hidden_states": image(8, 4),
        "encoder_hidden_states": torch.randn(2, 3, 12),
        "pooled_projections": torch.randn(2, 10),
        "timestep": torch.tensor([1.0, 2.0]),
    }


@architecture("diffusers/FluxTransformer2DModel")
def _flux() -> Built:
    library = importlib.import_module("diffusers")
    net = library.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        axes_dims_rope=(4, 4, 8),
    )
    return net.eval(), {
        "hidden_states": torch.randn(1, 4, 4),
        "encoder_hidden_states": torch.randn(1, 3, 12),
        "pooled_projections": torch.randn(1, 10),
        "timestep": torch.tensor([1.0]),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(3, 3),
        "guidance": None,
    }


@architecture("diffusers/PixArtTransformer2DModel")
def _pixart() -> Built:
    library = importlib.import_module("diffusers")
    net = library.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=16,
        sample_size=8,
        patch_size=2,
        caption_channels=12,
        use_additional_conditions=False,
    )
    return net.eval(), {
        "hidden_states": image(8, 4),
        "encoder_hidden_states": torch.randn(2, 3, 12),
        "timestep": torch.tensor([1, 2]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


_MONAI: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "UNet": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8, 16), "strides": (2, 2), "num_res_units": 1}, (1, 1, 16, 16)),
    "AttentionUnet": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8, 16), "strides": (2, 2)}, (2, 1, 16, 16)),
    "SegResNet": ({"spatial_dims": 2, "init_filters": 8, "in_channels": 1, "out_channels": 2, "blocks_down": (1, 1), "blocks_up": (1,)}, (1, 1, 16, 16)),
    "UNETR": ({"in_channels": 1, "out_channels": 2, "img_size": 32, "spatial_dims": 2, "feature_size": 4, "hidden_size": 16, "mlp_dim": 32, "num_heads": 4}, (1, 1, 32, 32)),
    "DynUNet": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 16]}, (1, 1, 16, 16)),
    "VNet": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 2}, (1, 1, 32, 32)),
    "HighResNet": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 2}, (1, 1, 16, 16)),
    "DenseNet121": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "init_features": 8, "growth_rate": 4, "block_config": (2, 2)}, (2, 1, 32, 32)),
    "SENet154": ({"spatial_dims": 2, "in_channels": 1, "num_classes": 2, "layers": (1, 1, 1, 1)}, (2, 1, 64, 64)),
    "ViT": ({"in_channels": 1, "img_size": 16, "patch_size": 8, "hidden_size": 16, "mlp_dim": 32, "num_layers": 2, "num_heads": 2, "spatial_dims": 2, "classification": True}, (1, 1, 16, 16)),
    "SwinUNETR": ({"in_channels": 1, "out_channels": 2, "feature_size": 12, "spatial_dims": 2, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}, (1, 1, 64, 64)),
    "FlexibleUNet": ({"in_channels": 3, "out_channels": 2, "backbone": "efficientnet-b0", "spatial_dims": 2, "pretrained": False}, (1, 3, 64, 64)),
}  # fmt: skip
for _name, (_settings, _shape) in _MONAI.items():

    @architecture(f"monai/{_name}")
    def _monai(
        name: str = _name, settings: dict[str, Any] = _settings, shape: tuple[int, ...] = _shape
    ) -> Built:
        library = importlib.import_module("monai.networks.nets")
        return getattr(library, name)(**settings).eval(), torch.randn(shape)
