"""Fills from many threads at once, for a build of the kernel with the thread sanitizer in it."""

import threading

import torch

import fanin
from fanin.randomness import Address, NormalDistribution, draw, fill, kernel_in_use


def main() -> None:
    print(fanin.__file__, kernel_in_use())
    assert kernel_in_use() != "off"
    torch.set_num_threads(4)
    normal, address = NormalDistribution(0.0, 1.0), Address(0, "a")
    wanted = draw(normal, address, (1_000_000,))
    targets = [torch.empty(1_000_000) for _ in range(8)]
    workers = [threading.Thread(target=fill, args=(t, normal, address)) for t in targets]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(bool((t == wanted).all()) for t in targets)
    for _ in range(200):
        fill(targets[0], normal, address)
    print("no data race")


if __name__ == "__main__":
    main()
