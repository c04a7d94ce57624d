"""Histogram and KDE of the first layer, the gradients' distribution, and convergence speed."""

import tempfile
from pathlib import Path

import numpy as np
from digits import load, mlp

import fanin
from fanin.measuring.signals import Histogram

FIGURES = ("weight_histograms", "gradient_distributions", "convergence_speed", "loss_curves")


def width_of(histogram: Histogram) -> float:
    """Standard deviation of a histogram, from its bins' centres."""
    edges, counts = np.array(histogram.edges), np.array(histogram.counts)
    centres = (edges[:-1] + edges[1:]) / 2
    mean = np.average(centres, weights=counts)
    return float(np.average((centres - mean) ** 2, weights=counts) ** 0.5)


def main() -> None:
    study = fanin.compare(
        {"mlp": lambda: mlp(depth=8)},
        load(),
        ["torch", "xavier_normal", "kaiming_normal"],
        seeds=5,
        steps=100,
        learning_rates=[0.05],
    )
    print(study.summary())
    for trial in study.trials:
        start = width_of(trial.layers[0].weight_start)
        promised = {"torch": (1 / 192) ** 0.5, "xavier_normal": (2 / 128) ** 0.5}
        promised["kaiming_normal"] = (2 / 64) ** 0.5
        # 4,096 weights: the std's own error is about 1 %, and a bin adds a little.
        assert abs(start / promised[trial.recipe] - 1) < 0.06, (trial.recipe, start)
        gradients = [layer.gradient_rms for layer in trial.layers]
        if trial.recipe == "torch":
            assert gradients[0] < gradients[-1] / 20, "the default's gradients vanish backwards"
    folder = Path(tempfile.mkdtemp())
    for name in FIGURES:
        study.figure(name).write_html(folder / f"{name}.html", include_plotlyjs="directory")
    print(f"figures: {folder}")


if __name__ == "__main__":
    main()
