"""What reports load: nothing heavy before it is needed."""

import subprocess
import sys

HEAVY = ("plotly", "rich", "jinja2", "sklearn")


def loaded_by(code):
    listing = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_importing_reports_loads_nothing_heavy():
    assert (
        loaded_by("import fanin.reporting, fanin.reporting.terminal, fanin.reporting.plots") == []
    )


def test_the_test_above_can_fail():
    assert loaded_by("import plotly") == ["plotly"]
