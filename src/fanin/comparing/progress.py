"""How far a study is: a bar with the time left in a terminal, a plain line now and then elsewhere.

Written to standard error, so that a study's output can be piped.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_DRAWINGS = 0.2
SECONDS_BEFORE_ESTIMATE = 3.0


class Progress:
    """Counts trial-steps, and estimates the time left from the speed so far.

    Every seed trains every network, so the mix of networks ahead is that behind.

    Args:
        total: trial-steps to do.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._first: tuple[float, int] | None = None
        # Ticks come from several threads.
        self._lock = Lock()

    def tick(self, steps: int) -> None:
        """``steps`` more trial-steps are done."""
        with self._lock:
            self.done += steps
            if self._first is None:
                # Building and measuring came before the first step: its time says nothing.
                self._first = (time.monotonic(), self.done)
            self.show()

    def message(self, text: str) -> None:
        """One line for the reader."""

    def show(self) -> None:
        """Bring what is shown up to date."""

    @property
    def share(self) -> float:
        """Share of all trial-steps that is done."""
        return self.done / max(1, self.total)

    def seconds_left(self) -> float | None:
        """Estimate of the time left; None in the first seconds."""
        if self._first is None:
            return None
        began, done = self._first
        elapsed = time.monotonic() - began
        if elapsed < SECONDS_BEFORE_ESTIMATE or self.done == done:
            return None
        return elapsed / (self.done - done) * (self.total - self.done)


class Silent(Progress):
    """Shows nothing."""


class Lines(Progress):
    """A plain line every quarter of a minute."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
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
        total: trial-steps to do.
        bar: a ``rich.progress.Progress`` with a field ``left``.
        task: of that bar, out of 1.
    """

    def __init__(self, total: int, bar: Any, task: Any) -> None:
        super().__init__(total)
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
def shown_progress(total: int, show: bool | None) -> Iterator[Progress]:
    """A bar in a terminal, lines elsewhere; nothing if ``show`` is False."""
    if show is False:
        yield Silent(total)
        return
    if not sys.stderr.isatty():
        yield Lines(total)
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
        yield Bar(total, bar, bar.add_task("", total=1.0, left=""))


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f", about {max(1, round(seconds))} s left"
    if seconds < 5400:
        return f", about {round(seconds / 60)} min left"
    return f", about {seconds / 3600:.1f} h left"
