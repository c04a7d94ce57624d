"""A diagnosis as a page, as JSON that reads back, and as SARIF."""

import json
import math
from dataclasses import replace

import pytest
from page_reading import assert_sound
from report_samples import HOSTILE, MARKUP, a_diagnosis, a_finding

from fanin.checking.findings import Severity
from fanin.errors import DataError, OutputError
from fanin.reporting import diagnosis_page, load_diagnosis, save_diagnosis
from fanin.reporting.html.diagnosis import _log_bars
from fanin.signals import Histogram, TensorSignal


@pytest.fixture
def diagnosis():
    return a_diagnosis()


def test_page_gives_verdict_findings_by_severity_and_layers(diagnosis):
    reader = assert_sound(diagnosis_page(diagnosis))
    text = reader.text
    assert "1 error, 1 warning, 1 note." in text
    assert text.index("Errors") < text.index("Warnings") < text.index("Notes")
    assert "Use fanin.initialize(model, x, 'kaiming_normal')." in text
    assert "ln 10 = 2.30" in text
    rows = [a for tag, a in reader.elements if tag == "th" and a.get("scope") == "row"]
    assert len(rows) == 8
    links = [a["href"] for a in reader.all("a") if a["href"].startswith("#FAN")]
    assert links == ["#FAN101-error", "#FAN103-warning"]


def test_page_of_a_healthy_model_says_so():
    text = assert_sound(diagnosis_page(a_diagnosis(findings=()))).text
    assert "Healthy start. Nothing found." in text


def test_page_without_layers_or_loss(diagnosis):
    bare = replace(diagnosis.signals, layers=(), loss=None, classes=None, samples=0)
    text = assert_sound(diagnosis_page(replace(diagnosis, signals=bare, findings=()))).text
    assert "Layer by layer" not in text


@pytest.mark.parametrize("name", [HOSTILE, MARKUP, "{{ 7*7 }}"])
def test_names_are_text(name, diagnosis):
    finding = a_finding(name, Severity.ERROR, name, name=name, message=name, fix=name)
    layer = replace(diagnosis.layers[0], weight=name, kind=name, activation=name)
    signals = replace(diagnosis.signals, layers=(layer,), notes=(name,))
    hostile = replace(diagnosis, model_type=name, findings=(finding,), signals=signals)
    reader = assert_sound(diagnosis_page(hostile), [name])
    assert not reader.all("script")


def test_many_places_of_one_rule_are_folded():
    found = [a_finding(where=f"{i}.weight") for i in range(20)]
    reader = assert_sound(diagnosis_page(a_diagnosis(found)))
    assert "17 more places" in reader.text
    assert len(reader.all("article")) == 1


def test_bars_share_a_log_scale():
    assert _log_bars([1.0, 0.1, 0.01, 0.0, None, math.inf]) == [100, 52, 4, None, None, None]
    # A factor of 1.1 is a fiftieth of the least span, two decades.
    assert _log_bars([1.0, 1 / 1.1])[1] == pytest.approx(98, abs=0.1)
    assert _log_bars([None]) == [None]


def test_json_reads_back_what_was_written(tmp_path, diagnosis):
    layer = replace(
        diagnosis.layers[0],
        output_rms=math.inf,
        weight_mean=-math.inf,
        weight_histogram=Histogram((0.0, 0.5, 1.0), (3, 4)),
    )
    tensors = {3: TensorSignal(3, "addmm", "0", (64, 64), rms=1.5, finite=False)}
    signals = replace(diagnosis.signals, layers=(layer,), tensors=tensors)
    diagnosis = replace(diagnosis, signals=signals)
    save_diagnosis(diagnosis, tmp_path / "d.json")
    assert load_diagnosis(tmp_path / "d.json") == diagnosis
    data = json.loads((tmp_path / "d.json").read_text())
    assert data["ok"] is False
    assert data["diagnosis"]["findings"][0]["rule"] == "FAN101"


def test_nan_is_written_as_text(tmp_path, diagnosis):
    finding = a_finding(measured={"loss": math.nan})
    save_diagnosis(replace(diagnosis, findings=(finding,)), tmp_path / "d.json")
    back = load_diagnosis(tmp_path / "d.json")
    assert math.isnan(back.findings[0].measured["loss"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "fanin-diagnosis-1"}', '{"format": "fanin-diagnosis-9"}']
)
def test_broken_json_is_one_clear_error(tmp_path, text):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(DataError, match=r"d\.json: cannot be read as a diagnosis"):
        load_diagnosis(tmp_path / "d.json")


def test_missing_json_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_diagnosis(tmp_path / "absent.json")


def test_sarif_holds_what_the_standard_requires(tmp_path, diagnosis):
    diagnosis.save(tmp_path / "d.sarif")
    log = json.loads((tmp_path / "d.sarif").read_text())
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "fanin"
    codes = [rule["id"] for rule in driver["rules"]]
    assert len(codes) == len(set(codes))
    assert [r["level"] for r in run["results"]] == ["error", "warning", "note"]
    for result, finding in zip(run["results"], diagnosis.findings, strict=True):
        assert codes[result["ruleIndex"]] == result["ruleId"] == finding.rule
        assert finding.message in result["message"]["text"]
        (location,) = result["locations"]
        (logical,) = location["logicalLocations"]
        assert logical["fullyQualifiedName"] == (finding.where or "Sequential")
    prints = [tuple(r["partialFingerprints"].values()) for r in run["results"]]
    assert len(set(prints)) == 3


def test_sarif_carries_the_page_of_a_known_rule(tmp_path):
    from fanin.checking import RULES

    code, rule = next(iter(RULES.items()))
    save_diagnosis(a_diagnosis([a_finding(code, name=rule.name)]), tmp_path / "d.sarif")
    log = json.loads((tmp_path / "d.sarif").read_text())
    (listed,) = [r for r in log["runs"][0]["tool"]["driver"]["rules"] if r["id"] == code]
    assert listed["name"] == rule.name
    assert rule.summary in listed["shortDescription"]["text"]
    assert "Why is this bad?" in listed["help"]["markdown"]


def test_infinite_measurements_leave_sarif_valid(tmp_path):
    diagnosis = a_diagnosis([a_finding(measured={"loss": math.inf})])
    save_diagnosis(diagnosis, tmp_path / "d.sarif")
    assert (
        "loss ∞"
        in json.loads((tmp_path / "d.sarif").read_text())["runs"][0]["results"][0]["message"][
            "text"
        ]
    )


def test_unknown_extensions_write_nothing(tmp_path, diagnosis):
    with pytest.raises(OutputError, match=r"\.html, \.json, \.sarif"):
        save_diagnosis(diagnosis, tmp_path / "d.xml")
    assert not list(tmp_path.iterdir())
