"""Your own function, as with model.apply: run over every module, from innermost out.

fanin runs it under the seed that you give, changes the model wholly or not at all, and writes into
the ledger what the function changed and what it left.
"""

import torch
from digits import load, mlp
from torch import nn

import fanin


def my_init(module: nn.Module) -> None:
    """The usual thing that people write."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.constant_(module.bias, 0.01)


def broken(module: nn.Module) -> None:
    """The same with a mistake that shows only at the last module."""
    my_init(module)
    if isinstance(module, nn.Sequential):
        raise RuntimeError("no such attribute")


def main() -> None:
    x, _ = load()
    for seed in range(3):
        ours, plain = mlp(depth=4), mlp(depth=4)
        ledger = fanin.initialize(ours, x, my_init, seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            plain.apply(my_init)
        for name, tensor in plain.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name
        assert all(entry.status == "initialised" for entry in ledger.values())
    print(ledger)

    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    try:
        fanin.initialize(ours, x, broken)
    except Exception as error:
        print(f"error: {error}")
    else:
        raise AssertionError("a function that raises must not pass in silence")
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.state_dict().items())
    print("the model is as it was before the failing function ran")


if __name__ == "__main__":
    main()
