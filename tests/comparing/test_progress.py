"""Time left, in a terminal and out of it."""

import io
import sys

import pytest

from fanin.comparing import progress
from fanin.comparing.progress import Bar, Lines, Progress, Silent, shown_progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_follows_the_speed_since_the_first_step(clock):
    shown = Progress(1000)
    clock[0] += 500  # building and measuring: no part of the speed
    shown.tick(10)
    assert shown.seconds_left() is None
    clock[0] += 9
    shown.tick(90)
    assert shown.share == pytest.approx(0.1)
    assert shown.seconds_left() == pytest.approx(90.0)


def test_lines_now_and_then_outside_a_terminal(clock, capsys):
    with shown_progress(100, None) as shown:
        assert isinstance(shown, Lines)
        shown.message("three trials are there already")
        shown.tick(1)
        clock[0] += 5
        shown.tick(9)
        clock[0] += 11
        shown.tick(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "fanin: three trials are there already",
        "fanin: 20% trained, about 67 s left",
    ]


def test_a_bar_in_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress(10, None) as shown:
        assert isinstance(shown, Bar)
        shown.message("kept [1, 2]")
        shown.tick(10)
    text = terminal.getvalue()
    assert "100%" in text
    assert "kept [1, 2]" in text  # brackets are not markup


def test_silence(capsys):
    with shown_progress(10, False) as shown:
        assert isinstance(shown, Silent)
        shown.message("nothing")
        shown.tick(10)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.2, ", about 1 s left"), (300, ", about 5 min left"), (9000, ", about 2.5 h")],
)
def test_times_are_round(seconds, text):
    assert progress._left(seconds).startswith(text)
