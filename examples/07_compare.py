"""Xavier, Kaiming and a plain normal with Adam and cross-entropy: which is better, and is it sure?

Writes the report with loss curves beside this script's working directory.
"""

import tempfile
from pathlib import Path

from digits import load, mlp

import fanin


def main() -> None:
    study = fanin.compare(
        {"20-layer MLP": lambda: mlp(depth=20)},
        load(),
        ["normal_0.01", "xavier_normal", "kaiming_normal"],
        seeds=5,
        steps=120,
        learning_rates=[1e-3],
        optimizer="adam",
    )
    print(study.summary())
    early = {
        recipe: [sum(t.losses[30:60]) / 30 for t in study.trials if t.recipe == recipe]
        for recipe in ("normal_0.01", "xavier_normal", "kaiming_normal")
    }
    # N(0, 0.01²) has lost the signal after 20 layers: it has not left ln 10 when He has.
    assert min(early["normal_0.01"]) > 2.2
    assert max(early["kaiming_normal"]) < 2.0
    assert study.significant

    report = Path(tempfile.mkdtemp()) / "compare.html"
    study.save(report)
    assert report.stat().st_size > 100_000
    print(f"loss curves and the rest: {report}")


if __name__ == "__main__":
    main()
