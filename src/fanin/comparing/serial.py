"""Trials and studies as JSON, and back, exactly.

Numbers that are not finite, which JSON lacks, are written as the strings "nan", "inf", "-inf".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fanin.checking.findings import Finding, Severity
from fanin.comparing.trial import LayerSnapshot, Trial
from fanin.errors import DataError
from fanin.signals import Histogram

FORMAT = "fanin-study-1"


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """A dict of plain JSON values."""
    return {
        "model": trial.model,
        "recipe": trial.recipe,
        "learning_rate": trial.learning_rate,
        "seed": trial.seed,
        "status": trial.status,
        "losses": _numbers(trial.losses),
        "accuracies": _numbers(trial.accuracies),
        "held_out_steps": list(trial.held_out_steps),
        "held_out_losses": _numbers(trial.held_out_losses),
        "held_out_accuracies": _numbers(trial.held_out_accuracies),
        "gradient_steps": list(trial.gradient_steps),
        "gradient_norms": {n: _numbers(v) for n, v in trial.gradient_norms.items()},
        "layers": [_layer_to_json(layer) for layer in trial.layers],
        "findings": [_finding_to_json(finding) for finding in trial.findings],
        "seconds": trial.seconds,
        "trained": trial.trained,
    }


def trial_from_json(data: Any) -> Trial:
    """Inverse of ``trial_to_json``.

    Raises:
        DataError: not such a dict.
    """
    try:
        return Trial(
            model=str(data["model"]),
            recipe=str(data["recipe"]),
            learning_rate=float(data["learning_rate"]),
            seed=int(data["seed"]),
            status=str(data["status"]),
            losses=_floats(data["losses"]),
            accuracies=_floats(data["accuracies"]),
            held_out_steps=tuple(int(s) for s in data["held_out_steps"]),
            held_out_losses=_floats(data["held_out_losses"]),
            held_out_accuracies=_floats(data["held_out_accuracies"]),
            gradient_steps=tuple(int(s) for s in data["gradient_steps"]),
            gradient_norms={str(n): _floats(v) for n, v in data["gradient_norms"].items()},
            layers=tuple(_layer_from_json(layer) for layer in data["layers"]),
            findings=tuple(_finding_from_json(finding) for finding in data["findings"]),
            seconds=float(data["seconds"]),
            trained=str(data["trained"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"this is not a trial of a fanin study ({type(error).__name__}: {error}). Give a "
            "file that Study.save wrote."
        ) from error


def plain(value: Any) -> Any:
    """Settings as JSON reads them back: lists for tuples, string keys, names for the rest."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _numbers(values: Sequence[float]) -> list[float | str]:
    return [v if math.isfinite(v) else repr(v) for v in values]


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else repr(value)


def _floats(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


def _histogram_to_json(histogram: Histogram | None) -> dict[str, Any] | None:
    if histogram is None:
        return None
    edges, counts = histogram.edges, list(histogram.counts)
    # Equal bins are nearly all of a study's bytes: two ends say it all, if they do exactly.
    if len(edges) > 2 and _spaced(edges[0], edges[-1], len(edges)) == edges:
        return {"low": edges[0], "high": edges[-1], "counts": counts}
    return {"edges": list(edges), "counts": counts}


def _histogram_from_json(data: Any) -> Histogram | None:
    if data is None:
        return None
    counts = tuple(int(c) for c in data["counts"])
    if "edges" in data:
        return Histogram(_floats(data["edges"]), counts)
    return Histogram(_spaced(float(data["low"]), float(data["high"]), len(counts) + 1), counts)


def _spaced(low: float, high: float, count: int) -> tuple[float, ...]:
    step = (high - low) / (count - 1)
    return (*(low + step * i for i in range(count - 1)), high)


def _layer_to_json(layer: LayerSnapshot) -> dict[str, Any]:
    return {
        "weight": layer.weight,
        "weight_start": _histogram_to_json(layer.weight_start),
        "weight_end": _histogram_to_json(layer.weight_end),
        "activation_start": _histogram_to_json(layer.activation_start),
        "gradient_start": _histogram_to_json(layer.gradient_start),
        "activation_rms": _number(layer.activation_rms),
        "gradient_rms": _number(layer.gradient_rms),
    }


def _layer_from_json(data: Any) -> LayerSnapshot:
    weight_start = _histogram_from_json(data["weight_start"])
    if weight_start is None:
        raise ValueError("a layer without a histogram of its weights")
    return LayerSnapshot(
        weight=str(data["weight"]),
        weight_start=weight_start,
        weight_end=_histogram_from_json(data["weight_end"]),
        activation_start=_histogram_from_json(data["activation_start"]),
        gradient_start=_histogram_from_json(data["gradient_start"]),
        activation_rms=_optional(data["activation_rms"]),
        gradient_rms=_optional(data["gradient_rms"]),
    )


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    data = asdict(finding)
    data["severity"] = str(finding.severity)
    data["measured"] = {k: _number(float(v)) for k, v in finding.measured.items()}
    return data


def _finding_from_json(data: Any) -> Finding:
    fields = dict(data)
    fields["severity"] = Severity(fields["severity"])
    fields["measured"] = {str(k): float(v) for k, v in fields["measured"].items()}
    return Finding(**fields)
