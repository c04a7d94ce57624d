"""Make the README's picture from a study: ``python docs/picture.py fanin-study/study.json``.

Needs Chromium, which takes the screenshot of the figure that ``Study.figure`` returns.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from fanin.comparing import Study

WIDTH, HEIGHT = 900, 420
PICTURE = Path(__file__).parent / "images" / "comparison.png"


def main() -> None:
    """Draw the loss curves of the study's first network and photograph them."""
    study = Study.load(sys.argv[1])
    figure = study.figure("loss_curves", model=study.trials[0].model)
    figure.update_layout(
        width=WIDTH,
        height=HEIGHT,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        title=f"{study.trials[0].model}: training loss, five seeds each",
    )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "figure.html"
        figure.write_html(page, include_plotlyjs=True, config={"displayModeBar": False})
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--hide-scrollbars",
                "--virtual-time-budget=5000", f"--window-size={WIDTH + 16},{HEIGHT + 16}",
                f"--screenshot={PICTURE}", page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
    print(PICTURE)


if __name__ == "__main__":
    main()
