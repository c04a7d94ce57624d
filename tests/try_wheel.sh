#!/usr/bin/env bash
# Builds the sdist and the wheel, installs the wheel into an empty environment, and uses it there;
# then the wheel that a machine without a compiler gets, which must give the same numbers.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$root"
export PIP_CONSTRAINT="$root/constraints.txt"
.venv/bin/python -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 \
  || { cat "$work/build.log"; exit 1; }
CXX=/bin/false .venv/bin/python -m build --wheel --outdir "$work/pure" . >"$work/build.log" 2>&1 \
  || { cat "$work/build.log"; exit 1; }
unset PIP_CONSTRAINT
python3 -m venv "$work/venv" 2>/dev/null || .venv/bin/python -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --disable-pip-version-check install -q -c $root/constraints.txt"
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

numbers='
import sys
import torch
from fanin.randomness import Address, NormalDistribution, draw, kernel_in_use
print(kernel_in_use(), file=sys.stderr)
print(draw(NormalDistribution(0.0, 1.0), Address(0, "w"), (1000,)).view(torch.int32).tolist())
'
venv/bin/python -c "$numbers" >compiled.txt 2>compiled.kernel
if command -v c++ >/dev/null || [ "${FANIN_REQUIRE_COMPILER:-}" = 1 ]; then
  if grep -qx off compiled.kernel; then echo "the wheel has no kernel in it" && exit 1; fi
fi
ls pure/fanin-*-py3-none-any.whl
$pip --force-reinstall --no-deps pure/*.whl
venv/bin/fanin --version
venv/bin/python -c "$numbers" >pure.txt 2>pure.kernel
grep -qx off pure.kernel || { echo "the pure wheel has a kernel in it" && exit 1; }
cmp compiled.txt pure.txt
