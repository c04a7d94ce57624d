"""A diagnosis as JSON, and back."""

import json
import os
from pathlib import Path

from fanin.checking.findings import Diagnosis
from fanin.errors import DataError
from fanin.reporting.plain_values import from_plain, to_plain

FORMAT = "fanin-diagnosis-1"


def diagnosis_json(diagnosis: Diagnosis) -> str:
    """The diagnosis as JSON text: verdict, findings and all signals."""
    data = {"format": FORMAT, "ok": diagnosis.ok, "diagnosis": to_plain(diagnosis)}
    return json.dumps(data, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def load_diagnosis(path: str | os.PathLike[str]) -> Diagnosis:
    """Read what ``Diagnosis.save("x.json")`` wrote.

    Raises:
        DataError: the file is missing, broken or no diagnosis.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        return from_plain(Diagnosis, data["diagnosis"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{os.fspath(path)}: cannot be read as a diagnosis ({error}). Give a .json file that "
            "Diagnosis.save wrote."
        ) from error
