"""A study: the same network trained from several recipes, several seeds each."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from fanin.comparing.curves import RecipeCurves, curves_of
from fanin.comparing.serial import FORMAT, plain, trial_from_json, trial_to_json
from fanin.comparing.statistics import Comparison
from fanin.comparing.storage import write_whole
from fanin.comparing.summary import Summary, summarise
from fanin.comparing.trial import LayerSnapshot as LayerSnapshot
from fanin.comparing.trial import Trial as Trial
from fanin.errors import DataError, OutputError, unknown_name


@dataclass(frozen=True)
class Study:
    """All trials of one comparison and how they were made.

    Args:
        trials: finished trials.
        settings: how to reproduce it: command, models, data, recipes, seeds, steps, batch size,
            optimizer, learning rates, versions of Python, torch and fanin, number of parameters.
        complete: False when it was interrupted; running again goes on from there.
    """

    trials: tuple[Trial, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    complete: bool = True

    def summary(self, metric: str | None = None) -> Summary:
        """A table per network and who wins, with intervals over the seeds.

        Args:
            metric: "held_out_accuracy", "held_out_loss" or "final_loss"; None for the first of
                these that was measured.

        Raises:
            UnknownNameError: another metric.
        """
        targets = self.settings.get("target_losses")
        steps = self.settings.get("steps")
        notes = self.settings.get("notes")
        return summarise(
            self.trials,
            metric=metric,
            steps=steps if isinstance(steps, int) else None,
            targets=cast(
                Mapping[str, float | None], targets if isinstance(targets, Mapping) else {}
            ),
            notes=[str(n) for n in notes] if isinstance(notes, list | tuple) else [],
        )

    @cached_property
    def significant(self) -> tuple[Comparison, ...]:
        """The pairs of recipes that differ significantly, over all networks; empty if none do."""
        return tuple(c for m in self.summary().models for c in m.comparisons if c.significant)

    @cached_property
    def curves(self) -> Mapping[str, Mapping[str, RecipeCurves]]:
        """Network -> recipe -> its curves: mean and 95 % band over the seeds, at its best rate."""
        return curves_of(self.trials)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report (``.html``, one file that works offline) or the numbers (``.json``).

        Raises:
            OutputError: another extension, or the file cannot be written; nothing is left behind.
        """
        target = Path(path)
        extension = target.suffix.lower()
        if extension == ".html":
            from fanin.reporting import study_page

            text = study_page(self)
        elif extension == ".json":
            text = json.dumps(self.to_json(), allow_nan=False, ensure_ascii=False)
        else:
            raise OutputError(
                f"{os.fspath(path)!r}: unknown extension {extension!r}. Use .html or .json."
            )
        write_whole(target, text)
        return target

    def figure(self, name: str, **options: Any) -> Any:
        """A plotly figure by name, for notebooks; ``fanin.reporting.plots.FIGURES`` lists them.

        Args:
            name: such as "loss_curves".
            options: of that figure: a model, recipes, a layer.

        Raises:
            UnknownNameError: no such figure, model, recipe or layer.
        """
        from fanin.reporting.plots import FIGURES

        if name not in FIGURES:
            raise unknown_name("figure", name, FIGURES, "fanin.reporting.plots.FIGURES")
        return FIGURES[name](self, **options)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values; ``from_json`` reads it back exactly."""
        return {
            "format": FORMAT,
            "complete": self.complete,
            "settings": plain(self.settings),
            "trials": [trial_to_json(trial) for trial in self.trials],
        }

    @classmethod
    def from_json(cls, data: Any) -> "Study":
        """Inverse of ``to_json``.

        Raises:
            DataError: not a study, or of a format that this version does not read.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise DataError(
                f"this is not a study of format {FORMAT!r}. Give a file that Study.save wrote "
                "with this version of fanin."
            )
        trials = data.get("trials")
        if not isinstance(trials, list):
            raise DataError("this study has no list of trials. Give a file that Study.save wrote.")
        settings = data.get("settings")
        return cls(
            tuple(trial_from_json(trial) for trial in trials),
            dict(settings) if isinstance(settings, Mapping) else {},
            bool(data.get("complete", True)),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Study":
        """Read a study that ``save("x.json")`` wrote.

        Raises:
            DataError: the file is missing, broken or no study.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{os.fspath(path)}: cannot be read as a study ({error}). Give a .json file that "
                "Study.save wrote."
            ) from error
        return cls.from_json(data)
