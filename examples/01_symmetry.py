"""All zeros, all ones: units that start equal get equal gradients and never part.

A layer of 64 equal units is one unit, counted 64 times.  With zeros nothing but the last bias
ever moves; with ones the weights move, all together.
"""

import torch
from digits import load, mlp, train

import fanin


def spread(weight: torch.Tensor) -> float:
    """How far the units (rows) of a layer lie apart, relative to the layer's size."""
    return ((weight - weight.mean(0)).abs().max() / weight.abs().max().clamp_min(1e-30)).item()


def main() -> None:
    x, y = (tensor[:512] for tensor in load())
    x = x.double()
    print("recipe          spread of units after 50 steps, for seeds 0 1 2")
    for recipe in ("zeros", "ones", "kaiming_normal"):
        spreads = []
        for seed in range(3):
            model = mlp(depth=3).double()
            fanin.initialize(model, x, recipe, seed=seed)
            # Small steps: with all ones the activations are large, and so are the gradients.
            train(
                model, x, y, steps=50, learning_rate=1e-6 if recipe == "ones" else 0.05, seed=seed
            )
            spreads.append(spread(model[0].weight.detach()))
        print(f"{recipe:15} " + " ".join(f"{s:.1e}" for s in spreads))
        if recipe == "kaiming_normal":
            assert min(spreads) > 0.1, "random units must differ"
        else:
            assert max(spreads) < 1e-9, f"{recipe}: equal units have parted"

    model = mlp(depth=3).double()
    fanin.initialize(model, x, "ones")
    diagnosis = fanin.check(model, x, target=y)
    print(diagnosis)
    assert any("equal" in f.name or "symmetr" in f.name for f in diagnosis.findings)


if __name__ == "__main__":
    main()
