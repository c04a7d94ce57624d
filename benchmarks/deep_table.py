"""The table of ``deep.py``'s results, and the list of what was not run."""

from collections.abc import Iterable, Iterator
from statistics import mean
from typing import Any

_NAMES = {"mlp": "MLP", "cnn": "CNN", "residual": "residual net"}


def table(results: dict[str, Any], planned: Iterable[str]) -> str:
    """Every cell that was run, then what was not."""
    done: dict[str, Any] = results.get("cells", {})
    names = list(dict.fromkeys([*planned, *done]))
    lines = [
        f"{results.get('data', 'no data')}, batch {results.get('batch')}, "
        f"{results.get('device')}; test accuracy in %, rate chosen on seed 0 by validation",
        "",
        f"{'net':27} {'start':15} {'mean':>5} {'rate':>6} {'steps':>5}  seeds",
    ]
    lines += [line for name in sorted(names, key=_order) if (line := _line(name, done.get(name)))]
    missing = [name for name in names if not done.get(name, {}).get("seeds")]
    missing = [name for name in missing if "error" not in done.get(name, {})]
    spent = sum(record.get("cpu_seconds", 0) for record in done.values())
    lines += [
        "",
        f"{spent / 60:.0f} CPU minutes. Not run: {', '.join(_grouped(missing)) or 'nothing'}.",
    ]
    return "\n".join(lines)


def _order(name: str) -> tuple[Any, ...]:
    kind, depth, activation, _ = name.split("/")
    kind, _, steps = kind.partition("@")
    return kind, int(depth), activation, int(steps or 0)


def _line(name: str, record: dict[str, Any] | None) -> str:
    if not record:
        return ""
    kind, depth, activation, arm = name.split("/")
    label = f"{_NAMES[kind.partition('@')[0]]} {depth} {activation}"
    if "error" in record:
        return f"{label:27} {arm:15} not run: {record['error']}"
    if not record.get("seeds"):
        return ""
    accuracies = [100 * r["accuracy"] for r in record["seeds"]]
    each = " ".join(
        f"{a:.1f}" + ("×" if r["stopped"] is not None else "")
        for a, r in zip(accuracies, record["seeds"], strict=True)
    )
    return (
        f"{label:27} {arm:15} {mean(accuracies):5.1f} {record['seeds'][0]['rate']:6.0e} "
        f"{record.get('steps', '')!s:>5}  {each}"
    )


def _grouped(names: list[str]) -> Iterator[str]:
    """``mlp/300/relu: auto, lsuv`` instead of one entry each."""
    groups: dict[str, list[str]] = {}
    for name in names:
        net, _, arm = name.rpartition("/")
        groups.setdefault(net, []).append(arm)
    for net, arms in groups.items():
        yield f"{net} ({', '.join(arms)})"
