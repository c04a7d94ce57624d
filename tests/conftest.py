"""What all tests share."""

import pytest


@pytest.fixture(autouse=True)
def _away_from_the_checkout(tmp_path, monkeypatch):
    # A study writes its trials into the working directory by default: never into the checkout.
    monkeypatch.chdir(tmp_path)
