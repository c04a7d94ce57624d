"""Normal or uniform?  At equal variance the shape of the distribution does not matter.

What is often compared, N(0, 1/n) against U(±1/√n), differs threefold in variance: the uniform has
1/(3n).  U(±√(3/n)) has the same variance as N(0, 1/n), and trains the same.
"""

from digits import load, mlp

import fanin
from fanin.schemes import VarianceScaling

RECIPES = {
    "normal, 1/n": VarianceScaling(scale=1.0, mode="fan_in", distribution="normal"),
    "uniform, 1/n": VarianceScaling(scale=1.0, mode="fan_in", distribution="uniform"),
    "uniform, 1/(3n)": VarianceScaling(scale=1 / 3, mode="fan_in", distribution="uniform"),
}


def main() -> None:
    study = fanin.compare(
        {"mlp": lambda: mlp(depth=6)},
        load(),
        RECIPES,
        seeds=5,
        steps=100,
        learning_rates=[0.05],
        out=None,
    )
    print(study.summary())
    last = {
        recipe: [sum(t.losses[-10:]) / 10 for t in study.trials if t.recipe == recipe]
        for recipe in RECIPES
    }
    mean = {recipe: sum(values) / len(values) for recipe, values in last.items()}
    shape = abs(mean["normal, 1/n"] - mean["uniform, 1/n"])
    scale = mean["uniform, 1/(3n)"] - mean["normal, 1/n"]
    print(f"the shape changes the loss by {shape:.3f}, the scale by {scale:.3f}")
    assert scale > 5 * shape, "the scale must matter, and the shape must not"
    assert all(slow > max(last["normal, 1/n"]) for slow in last["uniform, 1/(3n)"])


if __name__ == "__main__":
    main()
