"""``import fanin`` is light: it costs little and loads none of the heavy libraries."""

import subprocess
import sys

HEAVY = ("plotly", "typer", "rich", "jinja2", "sklearn", "scipy", "yaml")


def loaded_by(statement: str) -> set[str]:
    """Which heavy modules a fresh interpreter holds after a statement, torch's own aside."""
    # torch may itself import jinja2 or yaml in some builds: what was there before does not count.
    code = (
        f"import sys, torch; before = set(sys.modules)\n{statement}\n"
        f"print(*({HEAVY!r} & (sys.modules.keys() - before)))"
    ).replace(repr(HEAVY), repr(set(HEAVY)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy():
    assert loaded_by("import fanin") == set()


def test_the_light_parts_load_nothing_heavy():
    statement = (
        "import fanin; m = torch.nn.Linear(3, 3); "
        "fanin.initialize(m, torch.zeros(1, 3), 'kaiming_normal'); fanin.init.ones_(m.weight)"
    )
    assert loaded_by(statement) == set()


def test_this_test_can_fail():
    assert "plotly" in loaded_by("import fanin, plotly")


def test_import_adds_little_to_torch():
    # Measured in one process, so that start-up noise of the interpreter cancels; the best of
    # several, since a busy machine can only add.
    code = (
        "import time, torch; start = time.perf_counter(); import fanin; "
        "print(time.perf_counter() - start)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.050, times
