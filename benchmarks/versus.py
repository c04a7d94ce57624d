"""Every coverage model from four starts: drift, gradient ratio, and the loss after 100 steps.

    python benchmarks/versus.py                     # everything that is not in --out yet
    python benchmarks/versus.py --only gpt2 vgg     # parts of names
    python benchmarks/versus.py --show              # the table of what has been run
    python benchmarks/versus.py --optimizer sgd     # SGD with momentum .9 instead of Adam

Starts: the model as its library constructs it ("shipped"), AnyInit from PyPI, LSUV, auto. Every
start of a model sees the same batches in the same order (versus_tasks.py says which task) and the
same learning rates. A start is shown at the rate with the lowest mean loss over four seeds (AnyInit
and LSUV: at seed 0); what is compared is the loss on eight held-out batches after the last step,
over other seeds, which had no part in choosing the rate. Pairs by seed, Student's t test. With
--more, models where auto and shipped may differ, either way (p below .2, or by 5 %), are run on 16
more seeds, and those decide alone.
Holm's correction is over all models. A run that diverged counts as the worst loss that any start
of its model began or ended with. Results are kept in --out, one file a model, and what is there is
not run again, but for starts whose plan has changed.
"""

import argparse
import copy
import dataclasses
import hashlib
import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from versus_table import show
from versus_tasks import BATCH, SMALL_BATCH, NoTask, Ready, Task, call, leaves, make_task

import fanin
from fanin.comparing.ensemble import Ensemble
from fanin.comparing.stacked_optimizers import STACKED

ARMS = ("shipped", "anyinit", "lsuv", "auto")
RATES = {"adam": (1e-3, 3e-3, 1e-2, 3e-2), "sgd": (1e-3, 1e-2, 1e-1, 1.0)}
CHOOSING = {"shipped": (0, 5, 6, 7), "auto": (0, 5, 6, 7)}
"""Seeds that choose a start's rate; seed 0 for the others."""
JUDGING, MORE = (1, 2, 3, 4), tuple(range(10, 26))
LARGE_SAMPLE = 3500
"""Numbers in a sample, as in sound or large images, from which batches are small."""


def started(build: Callable[[], Any], arm: str, seed: int, batch: Any, plan: Any) -> nn.Module:
    """A model drawn by one start."""
    torch.manual_seed(seed)
    model, _ = build()
    ready = Ready(model)
    if arm == "anyinit":
        import anyinit

        plain = isinstance(batch, torch.Tensor | tuple)
        anyinit.initialize(model, input_spec=batch if plain else None, seed=seed)
    elif arm == "lsuv":
        fanin.initialize(model, batch, "lsuv", seed=seed)
    elif plan is not None:
        fanin.apply(plan, model, seed=seed)
    for parameter in ready.parameters():
        parameter.grad = None
    return ready


def digest(plan: Any) -> str:
    if plan is None:
        return ""
    text = "\n".join(f"{name} {a.action} {a.scheme!r} {a.axes!r}" for name, a in plan.items())
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclasses.dataclass
class Run:
    arm: str
    rate: float
    seed: int
    first: float = math.nan
    last: float = math.nan


def alone(model: nn.Module, run: Run, task: Task, optimizer: str) -> None:
    """Train one model, and write down its first and last loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    update: torch.optim.Optimizer
    if optimizer == "adam":
        update = torch.optim.Adam(parameters, lr=run.rate)
    else:
        update = torch.optim.SGD(parameters, lr=run.rate, momentum=0.9)
    for step, batch in enumerate(task.train):
        torch.manual_seed(step)  # for models that draw random numbers whatever their mode
        update.zero_grad()
        loss = task.loss(call(model, batch.inputs), batch.target)
        if step == 0:
            run.first = float(loss)
        if not math.isfinite(float(loss)):
            return
        loss.backward()
        update.step()
    with torch.no_grad():
        losses = [float(task.loss(call(model, b.inputs), b.target)) for b in task.held_out]
    run.last = sum(losses) / len(losses)


def together(models: Sequence[nn.Module], runs: Sequence[Run], task: Task, optimizer: str) -> None:
    """The same for models stacked along a first axis."""
    ensemble = Ensemble(models)
    rates = torch.tensor([r.rate for r in runs], dtype=torch.float64)
    update = STACKED[optimizer](ensemble.trainable, rates)
    names = list(ensemble.trainable)
    for step, batch in enumerate(task.train):
        losses = stacked_losses(ensemble, task, batch)
        if step == 0:
            for run, loss in zip(runs, losses.tolist(), strict=True):
                run.first = loss
        found = torch.autograd.grad(
            losses.sum(), list(ensemble.trainable.values()), allow_unused=True
        )
        update.step({n: g for n, g in zip(names, found, strict=True) if g is not None})
    with torch.no_grad():
        total = sum(stacked_losses(ensemble, task, b) for b in task.held_out)
    for run, loss in zip(runs, (total / len(task.held_out)).tolist(), strict=True):
        run.last = loss


def stacked_losses(ensemble: Ensemble, task: Task, batch: Any) -> torch.Tensor:
    losses, _ = ensemble.run(SimpleNamespace(task=task), batch.inputs, batch.target)
    return losses


def stackable(models: Sequence[nn.Module], task: Task) -> bool:
    """Whether two models give the same losses and gradients stacked as alone."""
    models = [copy.deepcopy(m) for m in models[:2]]
    batch = task.train[0]
    try:
        ensemble = Ensemble(models)
        losses = stacked_losses(ensemble, task, batch)
        stacked = torch.autograd.grad(
            losses.sum(), list(ensemble.trainable.values()), allow_unused=True
        )
    except Exception:  # what vmap cannot run is run one by one
        return False
    for index, model in enumerate(models):
        loss = task.loss(call(model, batch.inputs), batch.target)
        one = torch.autograd.grad(
            loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True
        )
        scale = max((float(g.abs().max()) for g in one if g is not None), default=0.0)
        close = torch.allclose(losses[index], loss, rtol=1e-3, atol=1e-5)
        for a, b in zip(stacked, one, strict=True):
            if (a is None) != (b is None):
                return False
            close &= a is None or torch.allclose(a[index], b, rtol=1e-2, atol=1e-4 * scale)
        if not close:
            return False
    return True


def train(make: Callable[[Run], nn.Module], runs: list[Run], task: Task, options: Any) -> bool:
    """All runs, stacked where that gives the same; whether it was."""
    drawn = {(run.arm, run.seed): make(run) for run in runs}
    models = [copy.deepcopy(drawn[run.arm, run.seed]) for run in runs]
    size = sum(p.numel() for p in models[0].parameters())
    stack = size < 300_000 and len(runs) > 1 and stackable(models, task)
    if stack:
        together(models, runs, task, options.optimizer)
    else:
        for model, run in zip(models, runs, strict=True):
            alone(model, run, task, options.optimizer)
    return stack


def by_depth(model: nn.Module, task: Task) -> list[list[Any]]:
    """Weight, output RMS, gradient RMS of every layer in order of running, on the first batch."""
    batch = task.train[0]
    signals = fanin.measure(model, batch.inputs, target=batch.target, loss=task.loss)
    return [[row.weight.removeprefix("model."), row.output_rms, row.gradient_rms]
            for row in signals.layers]  # fmt: skip


def findings(model: nn.Module, task: Task) -> list[str]:
    batch = task.train[0]
    found = fanin.check(model, batch.inputs, target=batch.target, loss=task.loss).findings
    return sorted({f.rule for f in found if str(f.severity) in ("error", "warning")})


def versus(name: str, build: Callable[[], Any], kept: dict[str, Any], options: Any) -> dict:
    """One model: what is missing in ``kept`` is run."""
    _, inputs = build()
    sample = sum(v[:1].numel() for _, v in leaves(inputs))
    rows = SMALL_BATCH if sample > LARGE_SAMPLE else BATCH
    task = make_task(build, options.steps, rows)
    probe = started(build, "shipped", 0, task.train[0].inputs, None)
    for _ in range(2):
        began = time.perf_counter()
        task.loss(call(probe, task.train[0].inputs), task.train[0].target).backward()
    seconds = time.perf_counter() - began
    if seconds > options.longest:
        raise NoTask(f"one step takes {seconds:.2f} s")
    batch = task.train[0].inputs
    result = {"arms": {}, **kept, "task": task.kind, "rows": rows}
    arms: dict[str, Any] = result["arms"]
    plans: dict[str, Any] = dict.fromkeys(ARMS)
    for arm in options.arms:
        if arm == "lsuv" and arm not in fanin.RECIPES:
            continue
        try:
            if arm == "auto":
                model, _ = build()
                Ready(model)
                plans[arm] = fanin.plan(model, batch, arm)
            key = digest(plans[arm])
            if arms.get(arm, {}).get("digest") == key and not options.again:
                continue
            model = started(build, arm, 0, batch, plans[arm])
            arms[arm] = {"digest": key, "layers": by_depth(model, task)}
            if arm in ("shipped", "auto"):
                arms[arm]["findings"] = findings(model, task)
        except Exception as error:  # a start that cannot: said in the table, not hidden
            arms[arm] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:140]}

    def make(run: Run) -> nn.Module:
        return started(build, run.arm, run.seed, batch, plans[run.arm])

    rates = RATES[options.optimizer]
    able = [arm for arm in options.arms if arm in arms and "failed" not in arms[arm]]
    grid = {arm: arms[arm].setdefault("grid", []) for arm in able}
    known = {(arm, rate, seed) for arm in able for rate, seed, *_ in grid[arm]}
    wanted = [(a, rate, seed) for a in able for rate in rates for seed in CHOOSING.get(a, (0,))]
    runs = [Run(*key) for key in wanted if key not in known]
    if runs:
        result["stacked"] = train(make, runs, task, options)
    for run in runs:
        grid[run.arm].append([run.rate, run.seed, run.first, run.last])
    judged = []
    for arm in able:
        best = min(rates, key=lambda rate: mean([row[3] for row in grid[arm] if row[0] == rate]))
        if best != arms[arm].get("rate") or "judged" not in arms[arm]:
            arms[arm]["rate"] = best
            for judge in ("judged", "more"):
                arms[arm].pop(judge, None)
            judged += [Run(arm, best, seed) for seed in JUDGING]
    if judged:
        train(make, judged, task, options)
    for run in judged:
        arms[run.arm].setdefault("judged", []).append([run.seed, run.first, run.last])
    return result


def mean(values: Sequence[float]) -> float:
    """Infinite where one of them diverged."""
    return sum(values) / len(values) if all(map(math.isfinite, values)) else math.inf


def more_seeds(build: Callable[[], Any], result: dict, options: Any) -> None:
    """Fresh seeds for shipped and auto at the rates that they have."""
    task = make_task(build, options.steps, result["rows"])
    batch = task.train[0].inputs
    model, _ = build()
    Ready(model)
    plans = {"shipped": None, "auto": fanin.plan(model, batch, "auto")}
    lacking = [arm for arm in plans if "more" not in result["arms"][arm]]
    runs = [Run(arm, result["arms"][arm]["rate"], seed) for arm in lacking for seed in MORE]
    if runs:
        train(lambda r: started(build, r.arm, r.seed, batch, plans[r.arm]), runs, task, options)
    for arm in lacking:
        own = result["arms"][arm]
        own["more"] = [[r.seed, r.first, r.last] for r in runs if r.arm == arm]


def file_of(options: Any, name: str) -> Path:
    return Path(options.out) / options.optimizer / (re.sub(r"[^\w.-]+", "_", name) + ".json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--only", nargs="*", default=(), help="parts of names")
    parser.add_argument("--names", help="file with one name a line")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--optimizer", choices=list(RATES), default="adam")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--longest", type=float, default=1.0, help="seconds a step may take")
    parser.add_argument("--again", action="store_true", help="run these arms anew")
    parser.add_argument("--more", action="store_true", help="16 more seeds where unclear")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--out", default="versus-results")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    from architectures import architectures

    listed = list(architectures())
    if options.names:
        known = dict(listed)
        wanted = Path(options.names).read_text().split("\n")
        listed = [(n, known[n]) for n in wanted if n in known]
    listed = [(n, b) for n, b in listed
              if not options.only or any(part in n for part in options.only)]  # fmt: skip
    if not options.show:
        for name, build in listed:
            path = file_of(options, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = json.loads(path.read_text()) if path.exists() else {}
            began = time.process_time()
            try:
                if options.more:
                    from versus_table import may_differ

                    if not kept.get("arms") or not may_differ(kept):
                        continue
                    more_seeds(build, kept, options)
                    result = kept
                else:
                    kept.pop("not_run", None)
                    result = versus(name, build, kept, options)
            except ImportError as error:
                result = {"not_run": f"not installed: {error}"}
            except NoTask as error:
                result = {"not_run": str(error)}
            except Exception as error:
                result = {"not_run": f"{type(error).__name__}: {error}".splitlines()[0][:140]}
            spent = kept.get("seconds", 0) + time.process_time() - began
            result["name"], result["seconds"] = name, round(spent, 1)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(result))
            partial.replace(path)
            print(name, result["seconds"], "s", result.get("not_run", ""), flush=True)
    results = [json.loads(file_of(options, n).read_text()) for n, _ in listed
               if file_of(options, n).exists()]  # fmt: skip
    show(results, options.optimizer, len(listed))


if __name__ == "__main__":
    main()
