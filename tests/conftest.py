"""What all tests share."""

import pytest
import torch

# Doctests are looked for in every module, but a conftest is no module of its own.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]


@pytest.fixture(autouse=True)
def _away_from_the_checkout(tmp_path, monkeypatch):
    # A study writes its trials into the working directory by default: never into the checkout.
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _the_same_numbers_every_time():
    # A test that draws without naming a generator must not fail once in a thousand runs.
    torch.manual_seed(0)
