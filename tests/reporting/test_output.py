"""Files are written whole or not at all, and errors say where and what next."""

import os
import stat

import pytest

from fanin.errors import OutputError
from fanin.reporting.output import save_as, write_whole


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "report.html"
    assert write_whole(target, "one — ü") == target
    write_whole(target, "two")
    assert target.read_text(encoding="utf-8") == "two"
    assert os.listdir(tmp_path) == ["report.html"]


def test_rights_are_those_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    written = write_whole(tmp_path / "written", "x")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        write_whole(tmp_path / "absent" / "report.html", "x")
    assert os.listdir(tmp_path) == []


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        write_whole(tmp_path, "x")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "report.html", "new")
    assert os.listdir(tmp_path) == []


def test_extension_decides_and_unknown_ones_list_the_known(tmp_path):
    forms = {".a": str.upper, ".b": str.lower}
    save_as("Text", tmp_path / "x.A", forms)
    assert (tmp_path / "x.A").read_text() == "TEXT"
    with pytest.raises(OutputError, match=r"unknown extension '.c'.*\.a, \.b"):
        save_as("Text", tmp_path / "x.c", forms)
