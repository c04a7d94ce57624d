"""The summary of a study joined with what a report shows beside it: looks, seeds, findings."""

from collections.abc import Sequence
from dataclasses import dataclass

from fanin.checking.findings import Severity
from fanin.comparing.scores import METRICS
from fanin.comparing.study import Study, Trial
from fanin.comparing.summary import BEST, NOT_DIFFERENT, ModelSummary, Row
from fanin.reporting.palette import Look
from fanin.reporting.reading import cases


@dataclass(frozen=True)
class Outcome:
    """One recipe's row of the summary, how it is drawn, and the trials behind it."""

    row: Row
    look: Look
    trials: tuple[Trial, ...]

    @property
    def recipe(self) -> str:
        """Its name."""
        return self.row.recipe

    @property
    def final_losses(self) -> list[float]:
        """The final loss of every seed that did not diverge."""
        return [trial.final_loss for trial in self.trials if not trial.diverged]

    def rules_found(self, severity: Severity) -> int:
        """How many rules found something of this severity, over all seeds."""
        found = (f for trial in self.trials for f in trial.findings)
        return len({f.rule for f in found if f.severity is severity})


def outcomes(study: Study, model: str | None, asked: Sequence[str] | None = None) -> list[Outcome]:
    """The summary of one model, in the study's order of recipes."""
    summary = model_summary(study, model)
    rows = {row.recipe: row for row in summary.rows} if summary else {}
    return [Outcome(rows[c.recipe], c.look, c.trials) for c in cases(study, model, asked)]


def model_summary(study: Study, model: str | None) -> ModelSummary | None:
    """The summary of one model; None where there is no such trial."""
    return next((m for m in study.summary().models if m.model == model), None)


def ranked(summary: ModelSummary, rows: Sequence[Outcome]) -> list[Outcome]:
    """Best first, by the metric that decides."""
    sign = -1 if METRICS[summary.metric].higher_is_better else 1
    return sorted(rows, key=lambda outcome: sign * outcome.row.score.mean)


def sentence(summary: ModelSummary) -> str:
    """Who wins, without the model's name in front."""
    return summary.sentence.removeprefix(f"{summary.model}: ")


def leaders(summary: ModelSummary) -> tuple[str, ...]:
    """The winner, or every recipe that cannot be told apart from the best."""
    return tuple(row.recipe for row in summary.rows if row.verdict in {BEST, NOT_DIFFERENT})
