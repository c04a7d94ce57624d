"""A small CNN stuck at chance under bad random weights learns under He."""

import torch
from digits import accuracy, load, train
from torch import nn

import fanin
from fanin.schemes import Normal


def cnn() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    channels = 1
    for _ in range(8):
        layers += [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()]
        channels = 16
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))


def main() -> None:
    x, y = load()
    print("start           accuracy for seeds 0 1 2 (chance is 0.10)")
    for name, recipe in {"N(0, 0.01²)": Normal(std=0.01), "He": "kaiming_normal"}.items():
        scores = []
        for seed in range(3):
            torch.manual_seed(seed)
            model = cnn()
            fanin.initialize(model, x, recipe, seed=seed)
            train(model, x, y, steps=250, learning_rate=0.05, seed=seed)
            scores.append(accuracy(model, x, y))
        print(f"{name:15} " + " ".join(f"{s:.2f}" for s in scores))
        if name == "He":
            assert min(scores) > 0.7
        else:
            assert max(scores) < 0.2


if __name__ == "__main__":
    main()
