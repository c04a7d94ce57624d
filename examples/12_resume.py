"""Resume: reinitialising destroys what was learnt, adopt does not."""

import tempfile
from pathlib import Path

import torch
from digits import load, mlp, train
from torch.nn.functional import cross_entropy

import fanin


def main() -> None:
    x, y = load()
    path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
    print("seed   trained   reinitialised   adopted")
    for seed in range(3):
        model = mlp(depth=4)
        fanin.initialize(model, x, "auto", seed=seed)
        train(model, x, y, steps=200, seed=seed)
        torch.save(model.state_dict(), path)
        trained = cross_entropy(model(x), y).item()

        # What a script does that initialises after loading, or that initialises on every start.
        fanin.initialize(model, x, "auto", seed=seed + 100)
        reinitialised = cross_entropy(model(x), y).item()

        resumed = mlp(depth=4)
        ledger = fanin.adopt(resumed, path, x)
        adopted = cross_entropy(resumed(x), y).item()
        print(f"{seed:4} {trained:9.3f} {reinitialised:15.3f} {adopted:9.3f}")
        assert adopted == trained
        assert reinitialised > 4 * trained
        assert all(entry.status == "loaded" for entry in ledger.values())


if __name__ == "__main__":
    main()
