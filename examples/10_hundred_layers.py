"""U(−1, 1) through 100 layers overflows float32; He stays near 1 on average; orthogonal stays at 1.

He's signal is right on average over nets, but each net drifts: log of the second moment has
standard deviation √(5L/n).  Orthogonal weights of a linear net do not drift at all.
"""

import math

import torch

from fanin.axes import dense_axes
from fanin.randomness import Address
from fanin.schemes import Kaiming, Orthogonal, Uniform

DEPTH, WIDTH = 100, 128


def final_rms(scheme: object, relu: bool, seed: int) -> float:
    """RMS of the signal after 100 layers, from unit RMS."""
    x = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(seed))
    weight = torch.empty(WIDTH, WIDTH)
    for layer in range(DEPTH):
        scheme.fill(weight, dense_axes(weight.shape), Address(seed, f"layer.{layer}"))
        x = x @ weight.T
        x = torch.relu(x) if relu else x
    return x.square().mean().sqrt().item()


def main() -> None:
    arms = {
        "U(-1, 1), ReLU": (Uniform(-1.0, 1.0), True),
        "He, ReLU": (Kaiming(), True),
        "orthogonal, linear": (Orthogonal(), False),
    }
    print(f"RMS after {DEPTH} layers, from 1, for five seeds")
    for name, (scheme, relu) in arms.items():
        values = [final_rms(scheme, relu, seed) for seed in range(5)]
        print(f"{name:20} " + " ".join(f"{v:9.3g}" for v in values))
        if name.startswith("U"):
            assert all(not math.isfinite(v) or v > 1e30 for v in values)
        elif name.startswith("He"):
            # log q ~ N(-5L/2n, 5L/n): four standard deviations of log RMS.
            centre, spread = -5 * DEPTH / (4 * WIDTH), math.sqrt(5 * DEPTH / WIDTH) / 2
            assert all(abs(math.log(v) - centre) < 4 * spread for v in values)
        else:
            assert all(abs(v - 1) < 0.03 for v in values)


if __name__ == "__main__":
    main()
