"""Orthogonal matrices: fanin beside torch.nn.init, interleaved, medians, and the error of each.

    python benchmarks/orthogonal.py [--sizes 256 1024 4096] [--repeats 5] [--threads 2]

One matrix of each kind is made in turn, so that both meet the same load; the ratio is that of the
medians.  The error is max |QᵀQ − I|, computed in float64.
"""

import argparse
import statistics
import time

import torch

from fanin import init


def timed(function, tensor):
    start = time.perf_counter()
    function(tensor)
    return time.perf_counter() - start


def error(tensor):
    q = tensor.double()
    return float((q.T @ q - torch.eye(len(q), dtype=torch.float64)).abs().max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[16, 64, 256, 512, 1024, 2048, 4096]
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, float32")
    heads = ("torch ms", "fanin ms", "ratio", "torch err", "fanin err")
    print(f"{'n':>6}", *(f"{head:>10}" for head in heads))
    for n in options.sizes:
        theirs, ours = torch.empty(n, n), torch.empty(n, n)
        # Small matrices are made many times over; large ones cost seconds each.
        repeats = max(options.repeats, min(200, 2**22 // n**2))
        times = {"torch": [], "fanin": []}
        for turn in range(repeats + 1):
            a = timed(torch.nn.init.orthogonal_, theirs)
            b = timed(init.orthogonal_, ours)
            if turn:  # the first turn warms both up
                times["torch"].append(a)
                times["fanin"].append(b)
        a, b = (statistics.median(t) * 1e3 for t in times.values())
        shown = f"{a:>10.3f} {b:>10.3f} {a / b:>9.2f}x"
        print(f"{n:>6} {shown} {error(theirs):>10.1e} {error(ours):>10.1e}")


if __name__ == "__main__":
    main()
