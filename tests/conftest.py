"""What all tests share."""

import os

import pytest


@pytest.fixture(autouse=True)
def _one_study_folder_a_test(tmp_path, monkeypatch):
    # A study writes its trials beside the caller by default: never into the checkout.
    if os.environ.get("FANIN_TEST_KEEP_CWD") != "1":
        monkeypatch.chdir(tmp_path)
