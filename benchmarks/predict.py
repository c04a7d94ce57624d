"""How well the graph alone predicts every tensor's RMS, over many architectures.

For each model of ``architectures``: the weights are drawn (under a recipe, or as its library ships
them), every tensor is predicted from the graph and the plan, and measured on one batch, as the
root mean square over several draws of the weights: a single draw of a matrix 32 wide is itself
off by more than the tolerance. Draws go on, up to 128 or 30 seconds, while two standard errors of a
measurement exceed the tolerance. A tensor counts as right when its forward RMS is within
10 % and its gradient RMS within 20 %. Views, copies, uninitialised memory and the statistics that
norms save are not counted; tensors that are exactly 0 where 0 was predicted are right.

    python benchmarks/predict.py                # under auto, hidden width 128
    python benchmarks/predict.py --recipe shipped --width 32 --only bert gpt2
"""

import argparse
import dataclasses
import time
import traceback
import warnings
from collections import Counter
from typing import Any

import architectures as listing
import torch
from torch.nn.modules.batchnorm import _BatchNorm

import fanin

FORWARD, BACKWARD, LISTED_BELOW = 0.10, 0.20, 0.80
Errors = dict[int, tuple[float, float]]
MOST_DRAWS, MOST_SECONDS = 128, 30.0
"""More draws where the measurement is not clear after ``--draws`` of them: toy models are cheap."""
NOT_COUNTED = {
    "view", "_unsafe_view", "reshape", "alias", "detach", "clone", "expand", "t", "transpose",
    "permute", "squeeze", "unsqueeze", "slice", "select", "split", "split_with_sizes", "unbind",
    "unsafe_split", "chunk", "_to_copy", "lift_fresh", "empty", "empty_like", "new_empty",
    "empty_strided", "new_empty_strided", "input", "native_dropout", "bernoulli_", "zeros",
    "zeros_like", "new_zeros", "ones", "ones_like", "arange", "full", "full_like", "copy_",
}  # fmt: skip
WITH_STATISTICS = {
    "native_layer_norm", "native_group_norm", "native_batch_norm", "_fused_rms_norm",
    "_scaled_dot_product_flash_attention_for_cpu",
}  # fmt: skip
WIDTHS = {
    "hidden_size", "d_model", "n_embd", "dim", "emb_dim", "intermediate_size", "d_ff", "n_inner",
    "hidden_dim", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_kv", "d_head", "d_inner",
    "head_dim", "projection_dim", "embedding_size",
}  # fmt: skip


LISTS = {"hidden_sizes", "encoder_hidden_sizes", "hidden_dims", "embed_dims"}
ORIGINAL_CONFIG = listing._config


def widen(factor: int) -> None:
    """Models of larger widths, batches and lengths, so that chance does not blur the comparison."""
    for key in WIDTHS & set(listing._SMALL):
        listing._SMALL[key] *= factor
    listing._config = widened_config(factor, ORIGINAL_CONFIG)
    listing.ids.__defaults__ = (24, 4)
    listing.image.__defaults__ = (32, 3, 8)


def widened_config(factor: int, original: Any) -> Any:
    """Channel lists and widths that an architecture sets itself, widened too."""

    def config(library: Any, name: str, settings: dict[str, Any]) -> Any:
        wider = {
            key: [factor * n for n in value] if isinstance(value, list) else value * factor
            for key, value in settings.items()
            if key in LISTS | WIDTHS and isinstance(value, list | int)
        }
        return original(library, name, {**settings, **wider})

    return config


def narrow(settings: dict[str, int]) -> None:
    listing._SMALL.update(settings)
    listing._config = ORIGINAL_CONFIG
    listing.ids.__defaults__ = (7, 2)
    listing.image.__defaults__ = (32, 3, 2)


def within(predicted: float | None, measured: float, tolerance: float) -> bool:
    if predicted is None:
        return measured == 0.0
    if measured < 1e-30:
        return predicted < 1e-12
    return abs(predicted / measured - 1) <= tolerance


def called(signal: Any) -> tuple:
    return signal.operation, signal.module, len(signal.shape)


def matched(measured: fanin.Signals, predicted: fanin.Signals):
    """Tensors of both runs in pairs; aliases may be recorded in one run and not in the other."""
    aliases = ("detach", "alias", "input")
    one, two = ([s for _, s in sorted(x.tensors.items()) if s.operation not in aliases]
                for x in (measured, predicted))  # fmt: skip
    two_of: dict[tuple, list] = {}
    for signal in two:
        two_of.setdefault(called(signal), []).append(signal)
    calls = [Counter(map(called, run)) for run in (one, two)]
    previous = None
    for signal in one:
        same_call = (
            previous is not None
            and signal.operation in WITH_STATISTICS
            and (
                (previous.operation, previous.module) == (signal.operation, signal.module)
                and previous.tensor < signal.tensor <= previous.tensor + 3
                and previous.shape != signal.shape
            )
        )
        if same_call:  # a norm's saved mean, a softmax's saved sum: no activations
            continue
        previous = signal
        rest = two_of.get(called(signal), [])
        # A router sends another number of tokens to an expert in every draw, or none.
        exact = (k for k, other in enumerate(rest) if other.shape == signal.shape)
        same_place = calls[0][called(signal)] == calls[1][called(signal)]
        found = 0 if same_place else next(exact, 0)
        yield signal, rest.pop(found) if rest else None


class Score:
    def __init__(self) -> None:
        self.right = [0, 0]
        self.total = [0, 0]
        self.wrong: tuple[Counter, Counter] = (Counter(), Counter())
        self.first: list[str | None] = [None, None]
        self.sampled = 0
        self.unclear = [0, 0]
        """Wrong where two standard errors of the measurement exceed the tolerance."""

    def add(
        self,
        predicted: fanin.Signals,
        measured: fanin.Signals,
        errors: Errors | None = None,
    ) -> None:
        for found, guess in matched(measured, predicted):
            if found.operation in NOT_COUNTED or not found.finite or found.rms is None:
                continue
            if found.rms > 1e30:  # holds a mask's lowest number: its RMS says nothing
                continue
            self.sampled += guess is not None and guess.sampled
            pairs = ((found.rms, guess and guess.rms, FORWARD),
                     (found.gradient_rms, guess and guess.gradient_rms, BACKWARD))  # fmt: skip
            for k, (truth, value, tolerance) in enumerate(pairs):
                if truth is None:
                    continue
                self.total[k] += 1
                if within(value, truth, tolerance):
                    self.right[k] += 1
                else:
                    self.wrong[k][found.operation] += 1
                    self.unclear[k] += (
                        errors is not None and 2 * errors[found.tensor][k] > tolerance
                    )
                    if self.first[k] is None or k == 1:
                        ratio = float("nan") if value is None or not truth else value / truth
                        self.first[k] = f"{found.operation}@{found.module} ×{ratio:.2f}"

    def share(self, k: int) -> float:
        return self.right[k] / self.total[k] if self.total[k] else 1.0


def pooled(runs: list[fanin.Signals]) -> tuple[fanin.Signals, Errors]:
    """One measurement, root mean squares over draws of the weights, and their relative standard
    errors, forward and gradient.
    """
    columns = [[first for first, _ in matched(runs[0], runs[0])]]
    columns += [[other for _, other in matched(runs[0], run)] for run in runs[1:]]
    tensors, errors = {}, {}
    for row in zip(*columns, strict=True):
        seen = [s for s in row if s is not None]
        errors[row[0].tensor] = (
            standard_error([s.rms for s in seen if s.rms is not None]),
            standard_error([s.gradient_rms for s in seen if s.gradient_rms is not None]),
        )
        tensors[row[0].tensor] = dataclasses.replace(
            row[0],
            rms=quadratic_mean([s.rms for s in seen]),
            gradient_rms=quadratic_mean([s.gradient_rms for s in seen]),
        )
    return dataclasses.replace(runs[0], tensors=tensors), errors


def standard_error(values: list[float]) -> float:
    """Relative standard error of the root mean square."""
    n = len(values)
    squares = [v * v for v in values]
    mean = sum(squares) / n if n else 0.0
    if n < 2 or not 0 < mean < float("inf"):
        return 0.0
    variance = sum((s - mean) ** 2 for s in squares) / (n - 1)
    return (variance / n) ** 0.5 / mean / 2


def quadratic_mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return (sum(v * v for v in known) / len(known)) ** 0.5 if known else None


def _ready(model: torch.nn.Module) -> None:
    """As training sees it, but for dropout, which is chance."""
    for module in model.modules():
        # In eval mode batch norms do nothing yet: their statistics are 0 and 1.
        module.training = isinstance(module, _BatchNorm)


def score(
    build: Any, recipe: str, seed: int, draws: int, seconds: float
) -> tuple[Score, fanin.Signals]:
    torch.manual_seed(seed)
    model, inputs = build()
    _ready(model)
    plan = None if recipe == "shipped" else fanin.plan(model, inputs, recipe)
    runs: list[fanin.Signals] = []
    began = time.process_time()
    while True:
        for draw in range(seed + len(runs), seed + len(runs) + draws):
            if plan is not None:
                fanin.apply(plan, model, seed=draw)
            elif draw > seed:
                torch.manual_seed(draw)
                model, _ = build()
                _ready(model)
            runs.append(fanin.measure(model, inputs))
        measured, errors = pooled(runs)
        unclear = any(2 * f > FORWARD or 2 * g > BACKWARD for f, g in errors.values())
        if not unclear or len(runs) >= MOST_DRAWS or time.process_time() - began > seconds:
            break
    predicted = fanin.predict(model, inputs, plan)
    found = Score()
    found.add(predicted, measured, errors)
    return found, predicted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--width", type=int, default=128, help="hidden width (32 or a multiple)")
    parser.add_argument("--only", nargs="*", default=(), help="parts of names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=8, help="draws of the weights at a time")
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="of draws, at most")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    small = dict(listing._SMALL)
    totals = Score()
    below, failed = [], []
    print(f"{'model':40} {'forward':>14} {'gradient':>14} {'sampled':>8} {'s':>5}")
    for name, build in listing.architectures():
        if options.only and not any(part in name for part in options.only):
            continue
        start = time.time()
        found = None
        for width in dict.fromkeys((options.width, 32)):
            narrow(small)
            if width > 32:
                widen(width // 32)
            try:
                found, predicted = score(
                    build, options.recipe, options.seed, options.draws, options.seconds
                )
                break
            except ImportError:
                break
            except Exception as error:  # a model that cannot be built this wide, or a defect
                last = error
                trace = traceback.format_exc()
        if found is None:
            failed.append((name, f"{type(last).__name__}: {str(last).splitlines()[0][:100]}"))
            if options.verbose:
                print(trace)
            continue
        forward, backward = (f"{r}/{t} {100 * r / max(t, 1):5.1f}%" for r, t in
                             zip(found.right, found.total, strict=True))  # fmt: skip
        mark = "" if width == options.width else f" (width {width})"
        print(f"{name + mark:40} {forward:>14} {backward:>14} {found.sampled:8} "
              f"{time.time() - start:5.1f}", flush=True)  # fmt: skip
        for k in (0, 1):
            totals.right[k] += found.right[k]
            totals.total[k] += found.total[k]
            totals.wrong[k].update(found.wrong[k])
        totals.unclear = [a + b for a, b in zip(totals.unclear, found.unclear, strict=True)]
        if min(found.share(0), found.share(1)) < LISTED_BELOW:
            below.append((name, found, predicted.notes))
            if options.verbose:
                print("    ", found.first, dict(found.wrong[0].most_common(4)),
                      dict(found.wrong[1].most_common(4)), predicted.notes[:6])  # fmt: skip
    print()
    for k, (label, tolerance) in enumerate((("forward", FORWARD), ("gradient", BACKWARD))):
        print(f"{label} RMS within {tolerance:.0%}: {totals.right[k]} of {totals.total[k]} tensors "
              f"({totals.share(k):.1%}); most often wrong: "
              + ", ".join(f"{n} {c}" for n, c in totals.wrong[k].most_common(8)))  # fmt: skip
    print(f"of those wrong, two standard errors of the measurement exceed the tolerance: "
          f"{totals.unclear[0]} forward, {totals.unclear[1]} gradient")  # fmt: skip
    print(f"\nbelow {LISTED_BELOW:.0%} ({len(below)}):")
    for name, found, notes in below:
        print(f"  {name}: forward {found.share(0):.0%} (first {found.first[0]}), gradient "
              f"{found.share(1):.0%} (from the output back, last {found.first[1]}); "
              + "; ".join(notes[:3]))  # fmt: skip
    print(f"\nnot scored ({len(failed)}):")
    for name, reason in failed:
        print(f"  {name}: {reason}")


if __name__ == "__main__":
    main()
