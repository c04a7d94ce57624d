"""Every example runs, and asserts its own claim over several seeds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))


def test_there_are_thirteen_lessons():
    assert [path.name[:2] for path in EXAMPLES] == [f"{n:02}" for n in range(1, 14)]


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    if path.stem == "11_transfer":
        pytest.importorskip("transformers")
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout, "an example prints what it shows"
    # Its docstring is the lesson: a title sentence that a reader can hold against the output.
    assert path.read_text().startswith('"""')
