#!/usr/bin/env bash
# Builds the sdist and the wheel, installs the wheel into an empty environment, and uses it there.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$root"
PIP_CONSTRAINT="$root/constraints.txt" .venv/bin/python -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 \
  || { cat "$work/build.log"; exit 1; }
python3 -m venv "$work/venv" 2>/dev/null || .venv/bin/python -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt"
$pip torch==2.13.0
$pip "$work"/dist/*.whl
cd "$work" # out of the checkout, so that only the installed package can be imported
venv/bin/fanin --version
venv/bin/fanin schemes >schemes.txt # into a file: a reader that stops early would break the pipe
head -5 schemes.txt
venv/bin/python - <<'PY'
import fanin
import torch

assert "site-packages" in fanin.__file__, fanin.__file__
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
print(fanin.initialize(model, torch.randn(4, 8)))
PY
