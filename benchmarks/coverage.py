"""How much of the world's architectures does fanin read?

    python benchmarks/coverage.py [--only NAME] [--verbose]

Builds every architecture of ``architectures.py`` at a small size, records it, reads the roles,
and checks fans against brute force: the recorded operation is run again by itself with ones for
the weight, and autograd counts which inputs reach an output.  Times recording with reading roles,
and planning, against a forward pass of the same model (the median of three; the table shows the
median over the library's models).  Prints a table a library and every failure; exits with 1 if
there is any.
"""

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

import fanin
from fanin.graph import Graph, ParameterRole, Ref, Role, read_roles, record, untouched
from fanin.graph.calling import call
from fanin.graph.evidence import Facts
from fanin.graph.use import Part, Use

SAMPLE = 12  # weights per architecture whose fans are counted
REPEATS = 3  # of every timing, of which the median counts


@dataclass
class Result:
    name: str
    built: bool = False
    recorded: bool = False
    why: str = ""
    roles: Counter[str] = field(default_factory=Counter)
    without_role: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    without_axes: list[str] = field(default_factory=list)
    fans_checked: int = 0
    fans_wrong: list[str] = field(default_factory=list)
    read_ratio: float = 0.0  # recording and reading roles, in forward passes
    plan_ratio: float = 0.0  # planning with auto, recording included
    left: list[str] = field(default_factory=list)


def seconds(action: Any) -> float:
    """CPU time: another process beside this one does not count."""
    start = time.process_time()
    action()
    return time.process_time() - start


def measure(name: str, build: Any) -> Result:
    result = Result(name)
    try:
        model, inputs = build()
    except Exception as error:
        result.why = f"not built: {type(error).__name__}: {str(error).splitlines()[0]}"
        return result
    result.built = True
    try:
        with untouched(model):
            call(model, inputs)
            forward = median(seconds(lambda: call(model, inputs)) for _ in range(REPEATS))
        graph = record(model, inputs)
        roles = read_roles(graph)
        plan = fanin.plan(model, inputs)
        reading = median(seconds(lambda: read_roles(record(model, inputs))) for _ in range(REPEATS))
        planning = median(seconds(lambda: fanin.plan(model, inputs)) for _ in range(REPEATS))
    except Exception as error:
        result.why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return result
    result.read_ratio, result.plan_ratio = reading / forward, planning / forward
    # A parameter is planned, or left for a reason that the plan gives.
    result.left = [n for n, a in plan.items() if not a.reason]
    result.recorded = True
    for parameter, role in roles.items():
        result.roles[role.role.value] += 1
        if role.role is Role.UNKNOWN:
            result.without_role.append(f"{parameter}: {'; '.join(role.evidence)}")
        if role.role is Role.UNUSED:
            result.unused.append(parameter)
        elif role.axes is None:
            result.without_axes.append(f"{parameter}: {'; '.join(role.evidence)}")
    _check_fans(graph, roles, result)
    return result


def _check_fans(graph: Graph, roles: Any, result: Result) -> None:
    facts = Facts(graph)
    weights = [
        (name, use)
        for name, uses in facts.uses.items()
        for use in [u for u in uses if u.part is Part.WEIGHT and not u.labels.summed][:1]
        if roles[name].axes is not None
    ]
    step = max(len(weights) // SAMPLE, 1)
    for name, use in weights[::step]:
        counted = brute_fan_in(graph, use)
        if counted is None:
            continue
        role: ParameterRole = roles[name]
        stated = role.axes.fans(graph.parameters[name].shape).fan_in if role.axes else None
        result.fans_checked += 1
        if stated != counted:
            result.fans_wrong.append(f"{name}: stated {stated}, counted {counted}, {role.axes}")


def brute_fan_in(graph: Graph, use: Use) -> float | None:
    """Inputs that reach an output of the operation alone; None where it cannot be run alone."""
    operation = use.operation
    if use.source is None or operation.name not in (
        "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "convolution",
    ):  # fmt: skip
        return None
    shapes = {t: graph.tensors[t].shape for t in operation.inputs}
    source = list(shapes[use.source])
    transposed, stride = False, [1] * (len(source) - 2)
    if operation.name == "convolution":
        kernel = shapes[use.operand][2:]
        stride, _, dilation, transposed = operation.args[3:7]
        stride = list(stride) * (len(kernel) if len(stride) == 1 else 1)
        dilation = list(dilation) * (len(kernel) if len(dilation) == 1 else 1)
        # Wide enough for an output that no border touches.
        source = [1, source[1]]
        source += [
            2 * d * (k - 1) + 4 * s + 3 for k, s, d in zip(kernel, stride, dilation, strict=True)
        ]
        if torch.Size(source).numel() > 1 << 24:
            return None
    data = (torch.rand(source, dtype=torch.float64) + 0.5).requires_grad_()

    def tensor(value: int) -> torch.Tensor:
        if value == use.source:
            return data
        fill = 1.0 if value == use.operand else 0.0
        return torch.full(shapes[value], fill, dtype=torch.float64)

    args = [tensor(a.tensor) if isinstance(a, Ref) else a for a in operation.args]
    if operation.name in ("addmm", "baddbmm", "addmv"):
        args[0] = torch.zeros((), dtype=torch.float64).expand(args[0].shape)
    packet = getattr(torch.ops.aten, operation.name)
    out = packet(*[list(a) if isinstance(a, tuple) else a for a in args])
    if not out.numel():
        return None  # no row of the input came this way
    places = [[n // 2] for n in out.shape]
    if transposed:
        # Averaged over one period of the stride.
        places[2:] = [
            [n // 2 // s * s + i for i in range(s)]
            for n, s in zip(out.shape[2:], stride, strict=True)
        ]
    grid = torch.cartesian_prod(*[torch.tensor(p) for p in places]).reshape(-1, out.dim())
    counts = []
    for place in grid.tolist():
        (gradient,) = torch.autograd.grad(out[tuple(place)], data, retain_graph=True)
        counts.append(int((gradient != 0).sum()))
    return sum(counts) / len(counts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a part of the names to run")
    parser.add_argument("--verbose", action="store_true", help="one line an architecture")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    from architectures import architectures

    results = []
    for name, build in architectures():
        if options.only in name:
            results.append(measure(name, build))
            if options.verbose:
                last = results[-1]
                print(f"{name:44s} {last.why or dict(last.roles)}", flush=True)
    return report(results)


def report(results: list[Result]) -> int:
    head = f"{'library':18s} {'built':>5s} {'recorded':>8s} {'parameters':>10s} {'with role':>9s} "
    print(
        head + f"{'unused':>6s} {'no axes':>7s} {'fans right':>12s} {'read/forward':>12s} "
        f"{'plan/forward':>12s}"
    )
    libraries = list(dict.fromkeys(r.name.split("/")[0] for r in results))
    for library in [*libraries, "all"]:
        some = [r for r in results if library in ("all", r.name.split("/")[0])]
        done = [r for r in some if r.recorded]
        total = sum(sum(r.roles.values()) for r in done)
        unknown = sum(len(r.without_role) for r in done)
        checked, wrong = sum(r.fans_checked for r in done), sum(len(r.fans_wrong) for r in done)
        read = median(r.read_ratio for r in done) if done else 0.0
        planned = median(r.plan_ratio for r in done) if done else 0.0
        print(
            f"{library:18s} {sum(r.built for r in some):5d} {len(done):8d} {total:10d} "
            f"{total - unknown:9d} {sum(len(r.unused) for r in done):6d} "
            f"{sum(len(r.without_axes) for r in done):7d} {checked - wrong:5d}/{checked:<6d} "
            f"{read:11.1f}x {planned:11.1f}x"
        )
    recorded = [r for r in results if r.recorded]
    failures = 0
    for title, lines in (
        ("not built", [f"{r.name}: {r.why}" for r in results if not r.built]),
        ("not recorded", [f"{r.name}: {r.why}" for r in results if r.built and not r.recorded]),
        ("without a role", [f"{r.name}: {x}" for r in recorded for x in r.without_role]),
        ("fans unlike brute force", [f"{r.name}: {x}" for r in recorded for x in r.fans_wrong]),
        ("planned without a reason", [f"{r.name}: {x}" for r in recorded for x in r.left]),
        ("axes not shown by the use", [f"{r.name}: {x}" for r in recorded for x in r.without_axes]),
    ):
        print(f"\n{title}: {len(lines) or 'none'}")
        for line in lines:
            print(f"  {line}")
        if not title.startswith(("not built", "axes")):
            failures += len(lines)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
