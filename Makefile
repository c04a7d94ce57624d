# make demo   compare initialisations on real data and write a report
# make test   everything that CI checks: lint, types, import contracts, tests, sanitizers, wheels
.PHONY: demo test lint types contracts unit wheel kernel sanitize clean

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

demo: .venv/.demo
	$(BIN)/fanin compare

test: lint types contracts unit kernel wheel

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

contracts: .venv/.dev
	$(BIN)/lint-imports

# One thread per worker: two workers on two cores, and no oversubscription.
unit: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# The wheel that users get, in an environment that holds nothing else.
wheel: .venv/.dev
	bash tests/try_wheel.sh

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fanin needs Python 3.11 or newer; run: make PYTHON=python3.11 " )'
	$(PYTHON) -m venv .venv

# torch first: a range in another package must never pull a different build of it.
.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) -e .
	touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	touch $@ .venv/.demo

# The kernel's tests under the address and undefined-behaviour sanitizers (needs g++).
kernel: .venv/.dev
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/randomness/sanitize.sh address

# And its threads under the thread sanitizer.
sanitize: kernel
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/randomness/sanitize.sh thread

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis fanin-study
