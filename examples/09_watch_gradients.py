"""Watching gradients while training, and clipping them: clipping treats the symptom.

Weights three times too large make gradients explode.  Clipping keeps the run finite; a start of the
right size learns better, and needs no clipping.
"""

import math

from digits import load, mlp, train

import fanin
from fanin.schemes import Kaiming, Normal


def main() -> None:
    x, y = load()
    he = Kaiming()
    too_large = Normal(std=3 * math.sqrt(2 / 64))
    arms = {"3 × He": (too_large, None), "3 × He, clipped": (too_large, 1.0), "He": (he, None)}
    print(f"{'start':16} {'gradient norm at start':>24} {'loss after 150 steps':>22}")
    results: dict[str, list[float]] = {name: [] for name in arms}
    for name, (scheme, clip) in arms.items():
        for seed in range(3):
            model = mlp(depth=10)
            fanin.initialize(model, x, scheme, seed=seed)
            signals = fanin.measure(model, x[:256], target=y[:256])
            norms = [
                layer.weight_gradient_rms * math.sqrt(math.prod(layer.shape))
                for layer in signals.layers
            ]
            norm = max(norms)
            losses = train(model, x, y, steps=150, seed=seed, clip=clip)
            results[name].append(sum(losses[-20:]) / 20)
        print(f"{name:16} {norm:24.2e} {sum(results[name]) / 3:22.3g}")
        if name == "He":
            assert norm < 100
        else:
            assert norm > 1e3, "3^10 must show in the gradient"
    for seed in range(3):
        assert not math.isfinite(results["3 × He"][seed]) or results["3 × He"][seed] > 2
        assert math.isfinite(results["3 × He, clipped"][seed])
        assert results["He"][seed] < 1.0
        assert results["He"][seed] < results["3 × He, clipped"][seed]


if __name__ == "__main__":
    main()
