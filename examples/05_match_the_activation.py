"""Xavier with tanh, He with ReLU, and each with the wrong one, 30 layers deep.

The two mistakes are not alike.  Xavier before ReLU halves the second moment at every layer: after
30 layers nothing is left.  He before tanh is bounded by tanh itself; there it is the gradient that
suffers: it grows on its way back, where under Xavier it shrinks a little.
"""

import torch
from digits import load, mlp
from torch import nn

import fanin

DEPTH = 30
PAIRS = [
    (nn.ReLU, "kaiming_normal", True),
    (nn.ReLU, "xavier_normal", False),
    (nn.Tanh, "xavier_normal", True),
    (nn.Tanh, "kaiming_normal", False),
]


def signals(activation: type[nn.Module], recipe: str, seed: int) -> tuple[float, float]:
    """RMS of the last hidden activation, and gradient RMS at the first layer over the last."""
    x, _ = load()
    model = mlp(DEPTH, width=256, activation=activation)
    fanin.initialize(model, x, recipe, seed=seed)
    hidden = []
    for module in model:
        if isinstance(module, activation):
            module.register_forward_hook(lambda _m, _i, out: hidden.append(out))
    out = model(x[:256])
    first, last = torch.autograd.grad(out.square().mean(), [hidden[0], hidden[-1]])
    rms = hidden[-1].square().mean().sqrt().item()
    return rms, (first.square().mean() / last.square().mean()).sqrt().item()


def main() -> None:
    print(f"{'activation':10} {'recipe':16} {'RMS at the end':>15} {'gradient first/last':>20}")
    for activation, recipe, matched in PAIRS:
        for seed in range(5):
            rms, ratio = signals(activation, recipe, seed)
            if activation is nn.ReLU:
                # Thirty halvings of the second moment are 2^-15 of the RMS.
                assert (0.05 < rms < 20) if matched else (rms < 1e-3)
            else:
                assert 0.05 < rms < 1, "tanh cannot explode"
                assert (0.1 < ratio < 1) if matched else (ratio > 2)
        print(f"{activation.__name__:10} {recipe:16} {rms:15.2e} {ratio:20.2e}")


if __name__ == "__main__":
    main()
