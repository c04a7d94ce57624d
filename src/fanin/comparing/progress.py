"""How far a study is: a bar with the time left in a terminal, a plain line now and then elsewhere.

Written to standard error, so that a study's output can be piped.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_DRAWINGS = 0.2


class Progress:
    """Counts trial-steps, and estimates the time left from each network's own speed.

    Args:
        totals: network -> trial-steps still to do.
    """

    def __init__(self, totals: Mapping[str, int]) -> None:
        self.totals = dict(totals)
        self.done = dict.fromkeys(totals, 0)
        self.seconds = dict.fromkeys(totals, 0.0)
        self._last = time.monotonic()

    def tick(self, network: str, steps: int) -> None:
        """``steps`` more trial-steps of a network are done."""
        now = time.monotonic()
        self.seconds[network] += now - self._last
        self._last = now
        self.done[network] += steps
        self.show()

    def message(self, text: str) -> None:
        """One line for the reader."""

    def show(self) -> None:
        """Bring what is shown up to date."""

    @property
    def share(self) -> float:
        """Share of all trial-steps that is done."""
        return sum(self.done.values()) / max(1, sum(self.totals.values()))

    def seconds_left(self) -> float | None:
        """Estimate of the time left; None before anything is done.

        A network that has not begun is taken to cost as much a step as the dearest that has.
        """
        speeds = {n: self.seconds[n] / done for n, done in self.done.items() if done}
        if not speeds:
            return None
        dearest = max(speeds.values())
        return sum(
            (total - self.done[n]) * speeds.get(n, dearest) for n, total in self.totals.items()
        )


class Silent(Progress):
    """Shows nothing."""


class Lines(Progress):
    """A plain line every quarter of a minute."""

    def __init__(self, totals: Mapping[str, int]) -> None:
        super().__init__(totals)
        self._shown = time.monotonic()

    def message(self, text: str) -> None:
        """One line for the reader."""
        print(f"fanin: {text}", file=sys.stderr, flush=True)

    def show(self) -> None:
        """Bring what is shown up to date."""
        if time.monotonic() - self._shown < SECONDS_BETWEEN_LINES:
            return
        self._shown = time.monotonic()
        self.message(f"{self.share:.0%} trained{_left(self.seconds_left())}")


class Bar(Progress):
    """rich's progress bar.

    Args:
        totals: network -> trial-steps still to do.
        bar: a ``rich.progress.Progress`` with a field ``left``.
        task: of that bar, out of 1.
    """

    def __init__(self, totals: Mapping[str, int], bar: Any, task: Any) -> None:
        super().__init__(totals)
        self.bar = bar
        self.task = task
        self._shown = 0.0

    def message(self, text: str) -> None:
        """One line for the reader."""
        self.bar.console.print(text, highlight=False, markup=False)

    def show(self) -> None:
        """Bring what is shown up to date."""
        if time.monotonic() - self._shown < SECONDS_BETWEEN_DRAWINGS and self.share < 1:
            return
        self._shown = time.monotonic()
        left = _left(self.seconds_left()).removeprefix(", ")
        self.bar.update(self.task, completed=self.share, left=left)


@contextmanager
def shown_progress(totals: Mapping[str, int], show: bool | None) -> Iterator[Progress]:
    """A bar in a terminal, lines elsewhere; nothing if ``show`` is False."""
    if show is False:
        yield Silent(totals)
        return
    if not sys.stderr.isatty():
        yield Lines(totals)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        yield Bar(totals, bar, bar.add_task("", total=1.0, left=""))


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f", about {max(1, round(seconds))} s left"
    if seconds < 5400:
        return f", about {round(seconds / 60)} min left"
    return f", about {seconds / 3600:.1f} h left"
