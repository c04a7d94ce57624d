"""U(0, 1), U(−1, 1) and the 1/√n rule: the scale decides, and the sign matters.

U(0, 1) pushes every unit the same way: activations grow by about n/2 per layer.  U(−1, 1) has mean
0 and grows by about √(n/6).  U(±1/√n) does not grow with n at all.  One learning rate would be no
evidence: large weights want small steps, so every start gets the same grid and keeps its best.
"""

import torch
from digits import accuracy, load, mlp, train
from torch.nn.functional import cross_entropy

import fanin
from fanin.schemes import InverseSqrt, Uniform

SCHEMES = {
    "U(0, 1)": Uniform(0.0, 1.0),
    "U(-1, 1)": Uniform(-1.0, 1.0),
    "U(±1/√n)": InverseSqrt(distribution="uniform"),
}
LEARNING_RATES = (1e-3, 1e-2, 1e-1)
SEEDS = range(3)


def trial(scheme: object, learning_rate: float, seed: int) -> tuple[float, float]:
    """Loss at the start, and accuracy on images never trained on after 200 steps."""
    x, y = load()
    model = mlp(depth=3, width=128)
    fanin.initialize(model, x, scheme, seed=seed)
    with torch.no_grad():
        start = cross_entropy(model(x), y).item()
    train(model, x[:1200], y[:1200], steps=200, learning_rate=learning_rate, seed=seed)
    return start, accuracy(model, x[1200:], y[1200:])


def main() -> None:
    print(f"{'scheme':10} {'loss at start':>14}   held-out accuracy at learning rates")
    print(f"{'':10} {'':14}   " + " ".join(f"{rate:8g}" for rate in LEARNING_RATES))
    starts, best = {}, {}
    for name, scheme in SCHEMES.items():
        results = {rate: [trial(scheme, rate, seed) for seed in SEEDS] for rate in LEARNING_RATES}
        starts[name] = [start for start, _ in results[LEARNING_RATES[0]]]
        scores = {rate: [score for _, score in rows] for rate, rows in results.items()}
        best[name] = max(scores.values(), key=sum)
        means = " ".join(f"{sum(scores[rate]) / len(SEEDS):8.2f}" for rate in LEARNING_RATES)
        print(f"{name:10} {sum(starts[name]) / len(SEEDS):14.2f}   {means}")
    for seed in SEEDS:
        assert starts["U(0, 1)"][seed] > starts["U(-1, 1)"][seed] > 10
        assert abs(starts["U(±1/√n)"][seed] - 2.3026) < 0.1, "the loss starts at ln 10"
        assert best["U(0, 1)"][seed] < 0.5, "no learning rate saves U(0, 1)"
    assert sum(best["U(±1/√n)"]) > sum(best["U(-1, 1)"])


if __name__ == "__main__":
    main()
