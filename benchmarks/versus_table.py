"""What versus.py prints: a line a model with every loss, and who is better where."""

import math
from typing import Any

from fanin.comparing.statistics import ALPHA, holm, t_interval, t_test

SUSPICIOUS, MUCH = 0.2, 0.05
"""A model is run on more seeds if the p-value is below the first, or the difference above the
second as a share of shipped's loss."""


def worst(result: dict) -> float:
    """The worst loss that any start of this model began or ended with."""
    seen = [x for a in result["arms"].values() for row in [*a.get("grid", []), *a.get("judged", []),
            *a.get("more", [])] for x in row[-2:] if math.isfinite(x)]  # fmt: skip
    return max(seen, default=math.nan)


def losses(result: dict, arm: str, rows: str = "judged") -> list[float]:
    bad = worst(result)
    own = result["arms"].get(arm, {}).get(rows, [])
    return [row[-1] if math.isfinite(row[-1]) else bad for row in own]


def compared(result: dict, first: str, second: str) -> tuple[float, float] | None:
    """Mean of first − second and its p-value; by the seeds that came later where there are any."""
    rows = (
        "more" if all(result["arms"].get(a, {}).get("more") for a in (first, second)) else "judged"
    )
    a, b = losses(result, first, rows), losses(result, second, rows)
    if not a or len(a) != len(b):
        return None
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return sum(differences) / len(differences), t_test(differences)


def may_differ(result: dict) -> bool:
    """Whether auto and shipped are apart, or may be: either way."""
    found = compared(result, "auto", "shipped")
    if found is None:
        return False
    loss = losses(result, "shipped")
    return found[1] < SUSPICIOUS or abs(found[0]) > MUCH * sum(loss) / len(loss)


def by_quarters(layers: list[list[Any]], column: int) -> float:
    """Geometric mean over the last quarter of the layers but the head, over that of the first."""
    values = [row[column] for row in layers[:-1] if row[column]]
    part = max(len(values) // 4, 1)
    if len(values) < 2:
        return math.nan
    logs = [math.log(v) for v in values]
    return math.exp((sum(logs[-part:]) - sum(logs[:part])) / part)


def number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0e}" if not 0.01 <= value < 1000 else f"{value:.3g}"


def interval(values: list[float]) -> str:
    found = t_interval(values)
    return f"{found.mean:.3f}±{found.high - found.mean:.3f}"


def show(results: list[dict], optimizer: str, listed: int) -> None:
    ran = [r for r in results if r.get("arms")]
    arms = list(dict.fromkeys(arm for r in ran for arm in r["arms"]))
    others = [arm for arm in arms if arm != "auto"]
    print(f"\n{optimizer}: held-out loss after the last step, ± 95 %, at each start's best rate;")
    print("drift: RMS of the last quarter of the layers over the first's; gradient: the reverse\n")
    p = {other: [compared(r, "auto", other) for r in ran] for other in others}
    corrected = {other: holm([x[1] if x else math.nan for x in p[other]]) for other in others}
    for index, result in enumerate(ran):
        print(f"{result['name']} ({result['task']})")
        for arm in arms:
            own = result["arms"].get(arm)
            if own is None or "failed" in own or not own.get("judged"):
                print(f"    {arm:8} {(own or {}).get('failed', 'not run')}")
                continue
            rows = "more" if own.get("more") else "judged"
            bad = sum(not math.isfinite(row[-1]) for row in own[rows])
            verdict = ""
            found = p[arm][index] if arm in p else None
            if found is not None:
                sign = "auto better" if found[0] < 0 else "auto worse"
                strength = "before correction" if found[1] < ALPHA else "no difference"
                strength = "significant" if corrected[arm][index] < ALPHA else strength
                verdict = f"{sign} by {abs(found[0]):.3g}, p {found[1]:.2g}: {strength}"
            drift, gradient = by_quarters(own["layers"], 1), by_quarters(own["layers"], 2)
            print(f"    {arm:8} loss {interval(losses(result, arm, rows)):>16}"
                  f"{f' ({bad} diverged)' if bad else ''} rate {own['rate']:.0e} "
                  f"drift {number(drift)} gradient {number(1 / gradient if gradient else math.nan)}"
                  f" {','.join(own.get('findings', []))} {verdict}")  # fmt: skip
    for other in others:
        print(f"\nauto against {other}:")
        for title, test in (
            ("significantly better (Holm over all models)", lambda d, q, h: d < 0 and h < ALPHA),
            ("better before correction", lambda d, q, h: d < 0 and q < ALPHA <= h),
            ("no difference", lambda d, q, h: not q < ALPHA),
            ("worse before correction", lambda d, q, h: d > 0 and q < ALPHA <= h),
            ("significantly worse (Holm over all models)", lambda d, q, h: d > 0 and h < ALPHA),
        ):
            names = [r["name"] for r, x, h in zip(ran, p[other], corrected[other], strict=True)
                     if x and test(*x, h)]  # fmt: skip
            listing = "" if title == "no difference" or not names else ": " + ", ".join(names)
            print(f"  {len(names):4} {title}{listing}")
        missing = [r["name"] for r, x in zip(ran, p[other], strict=True) if x is None]
        print(f"  {len(missing):4} not compared{': ' + ', '.join(missing) if missing else ''}")
        unhealthy = [x for r, x in zip(ran, p[other], strict=True)
                     if x and r["arms"]["shipped"].get("findings")]  # fmt: skip
        if other == "shipped":
            print(f"  of {len(unhealthy)} models that fanin.check warns of as shipped: lower mean "
                  f"loss under auto in {sum(d < 0 for d, _ in unhealthy)}, p < .05 in "
                  f"{sum(d < 0 and q < ALPHA for d, q in unhealthy)}; higher with p < .05 in "
                  f"{sum(d > 0 and q < ALPHA for d, q in unhealthy)}")  # fmt: skip
    not_run = [(r["name"], r["not_run"]) for r in results if r.get("not_run")]
    print(f"\n{len(ran)} of {listed} models compared; not run: {len(not_run)}")
    for name, why in not_run:
        print(f"  {name}: {why}")
    print(f"{sum(r['seconds'] for r in results) / 60:.0f} CPU minutes")
