"""U(0, 1), U(−1, 1) and the 1/√n rule: the scale decides, and the sign matters.

U(0, 1) pushes every unit the same way: activations grow by n/2 per layer.  U(−1, 1) has mean 0
and grows by about √(n/6).  U(±1/√n) does not grow with n at all.
"""

import torch
from digits import load, mlp, train
from torch.nn.functional import cross_entropy

import fanin
from fanin.schemes import InverseSqrt, Uniform

SCHEMES = {
    "U(0, 1)": Uniform(0.0, 1.0),
    "U(-1, 1)": Uniform(-1.0, 1.0),
    "U(±1/√n)": InverseSqrt(distribution="uniform"),
}


def main() -> None:
    x, y = load()
    print(f"{'scheme':10} {'RMS of logits':>14} {'loss at start':>14} {'after 200 steps':>16}")
    start: dict[str, list[float]] = {name: [] for name in SCHEMES}
    end: dict[str, list[float]] = {name: [] for name in SCHEMES}
    for name, scheme in SCHEMES.items():
        sizes = []
        for seed in range(5):
            model = mlp(depth=3, width=256)
            fanin.initialize(model, x, scheme, seed=seed)
            with torch.no_grad():
                logits = model(x)
            sizes.append(logits.square().mean().sqrt().item())
            start[name].append(cross_entropy(logits, y).item())
            losses = train(model, x, y, steps=200, learning_rate=0.01, seed=seed)
            end[name].append(sum(losses[-20:]) / 20)
        means = [sum(values) / 5 for values in (sizes, start[name], end[name])]
        print(f"{name:10} {means[0]:14.2f} {means[1]:14.2f} {means[2]:16.2f}")
    for seed in range(5):
        assert start["U(0, 1)"][seed] > start["U(-1, 1)"][seed] > start["U(±1/√n)"][seed]
        # NaN counts as failed too, hence "not better" and not "worse".
        assert not end["U(0, 1)"][seed] < end["U(±1/√n)"][seed]
        assert not end["U(-1, 1)"][seed] < end["U(±1/√n)"][seed]
        assert end["U(±1/√n)"][seed] < 2.3, "the 1/√n rule learns: below ln 10"


if __name__ == "__main__":
    main()
