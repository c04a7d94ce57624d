"""PyTorch's default is not He: the measured std of every default layer.

torch.nn.Linear and the convolutions draw weights and biases from U(±1/√n_in): std 1/√(3·n_in).
He's rule for ReLU is √(2/n_in), larger by √6 = 2.45.  Behind each ReLU the signal's second moment
shrinks six-fold.
"""

from math import sqrt

import torch
from torch import nn

LAYERS = {
    "Linear(512, 512)": (lambda: nn.Linear(512, 512), 512),
    "Conv1d(64, 64, 5)": (lambda: nn.Conv1d(64, 64, 5), 64 * 5),
    "Conv2d(64, 64, 3)": (lambda: nn.Conv2d(64, 64, 3), 64 * 9),
    "Conv2d(256, 256, 3, groups=4)": (lambda: nn.Conv2d(256, 256, 3, groups=4), 64 * 9),
    "Conv3d(16, 64, 3)": (lambda: nn.Conv3d(16, 64, 3), 16 * 27),
}


def main() -> None:
    print(
        f"{'layer':30} {'measured std':>12} {'1/√(3n)':>9} {'He √(2/n)':>10} {'He / measured':>14}"
    )
    for name, (build, fan_in) in LAYERS.items():
        for seed in range(3):
            torch.manual_seed(seed)
            weight = build().weight.detach()
            measured = weight.std().item()
            claimed, he = 1 / sqrt(3 * fan_in), sqrt(2 / fan_in)
            # The variance of a uniform's sample variance: std error of the std is σ√(0.2/n).
            error = claimed * sqrt(0.2 / weight.numel())
            assert abs(measured - claimed) < 5 * error, f"{name}: {measured} is not 1/√(3n)"
            assert abs(measured - he) > 50 * error, f"{name}: {measured} is He after all"
        print(f"{name:30} {measured:12.5f} {claimed:9.5f} {he:10.5f} {he / measured:14.2f}")

    embedding, recurrent = nn.Embedding(1000, 64), nn.LSTM(64, 256)
    attention = nn.MultiheadAttention(256, 4)
    rows = [
        ("Embedding(1000, 64)", embedding.weight, 1.0, "N(0, 1)"),
        ("LSTM(64, 256).weight_hh", recurrent.weight_hh_l0, 1 / sqrt(3 * 256), "U(±1/√h)"),
        (
            "MultiheadAttention(256) q/k/v",
            attention.in_proj_weight,
            1 / sqrt(2 * 256),
            "Xavier on (3d, d)",
        ),
    ]
    for name, weight, claimed, formula in rows:
        measured = weight.std().item()
        print(f"{name:30} {measured:12.5f} {claimed:9.5f}   {formula}")
        assert abs(measured / claimed - 1) < 5 / sqrt(2 * weight.numel())

    x = torch.randn(1024, 512)
    hidden = torch.relu(nn.Linear(512, 512, bias=False)(torch.relu(x)))
    ratio = (hidden.square().mean() / torch.relu(x).square().mean()).item()
    print(f"a default ReLU layer multiplies the second moment by {ratio:.3f} = 1/{1 / ratio:.1f}")
    assert 1 / 7 < ratio < 1 / 5


if __name__ == "__main__":
    main()
