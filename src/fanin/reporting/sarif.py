"""A diagnosis as SARIF 2.1.0 (OASIS, 2020), which code hosts and editors show as annotations.

A model has no file and line: places are logical locations, named by the parameter or module.
"""

import json
from hashlib import blake2b
from typing import Any

from fanin import __version__
from fanin.checking.findings import Diagnosis, Finding
from fanin.reporting.numbers import measurement

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


def diagnosis_sarif(diagnosis: Diagnosis) -> str:
    """The diagnosis as the text of one SARIF log with one run."""
    codes = list(dict.fromkeys([*diagnosis.rules_run, *(f.rule for f in diagnosis.findings)]))
    names = {finding.rule: finding.name for finding in diagnosis.findings}
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "fanin",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "rules": [_rule(code, names.get(code)) for code in codes],
                    }
                },
                "columnKind": "utf16CodeUnits",
                "results": [_result(f, codes, diagnosis) for f in diagnosis.findings],
            }
        ],
    }
    return json.dumps(log, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def _rule(code: str, name: str | None) -> dict[str, Any]:
    from fanin.checking import RULES

    known = RULES.get(code)
    if known is None:
        return {"id": code, **({"name": name} if name else {})}
    page = known.documentation()
    return {
        "id": code,
        "name": known.name,
        "shortDescription": {"text": known.summary},
        "help": {"text": page, "markdown": page},
    }


def _result(finding: Finding, codes: list[str], diagnosis: Diagnosis) -> dict[str, Any]:
    parts = [finding.message]
    if finding.measured:
        seen = ", ".join(f"{name} {measurement(value)}" for name, value in finding.measured.items())
        parts.append(f"Measured: {seen}.")
    if finding.expected:
        parts.append(f"Expected: {finding.expected}.")
    if finding.fix:
        parts.append(f"Fix: {finding.fix}")
    where = finding.where or diagnosis.model_type
    return {
        "ruleId": finding.rule,
        "ruleIndex": codes.index(finding.rule),
        "level": finding.severity.value,
        "message": {"text": " ".join(parts)},
        "locations": [
            {
                "logicalLocations": [
                    {
                        "name": where.rpartition(".")[2],
                        "fullyQualifiedName": where,
                        "kind": "member" if finding.where else "module",
                    }
                ]
            }
        ],
        # The same fault in the same place is the same alert from one run to the next.
        "partialFingerprints": {
            "ruleAndPlace/v1": blake2b(
                f"{finding.rule}\0{where}".encode(), digest_size=16
            ).hexdigest()
        },
    }
