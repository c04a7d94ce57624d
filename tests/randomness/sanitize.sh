#!/bin/sh
# The kernel's tests under sanitizers: first addresses and undefined behaviour, then data races.
# Needs GCC with libasan, libubsan and libtsan.  Builds aside, and tests the copy built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src"
cp -r "$root/src/fanin" "$work/src/fanin"

build() {
    rm -f "$work"/src/fanin/randomness/_kernel*.so
    cmake -S "$work/src/fanin/randomness/cpp" -B "$work/$1" -DFANIN_INPLACE=ON \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFANIN_SANITIZE="$2" \
        -DPython_EXECUTABLE="$(command -v python)" >"$work/$1.log" || { cat "$work/$1.log"; exit 1; }
    cmake --build "$work/$1" -j 2 >"$work/$1.log" 2>&1 || { cat "$work/$1.log"; exit 1; }
}

# Python itself leaks by design, and torch's libraries are not instrumented: only the kernel is.
build address address,undefined
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    PYTHONPATH="$work/src" \
    python -m pytest -q -p no:cacheprovider --rootdir "$here" -c /dev/null \
    "$here/test_bits.py" "$here/test_addresses.py" "$here/test_golden.py" "$here/test_bad_input.py"

build thread thread
TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" \
    LD_PRELOAD="$(gcc -print-file-name=libtsan.so)" OMP_NUM_THREADS=1 \
    PYTHONPATH="$work/src" python - <<'PYTHON'
import threading

import torch

import fanin
from fanin.randomness import Address, NormalDistribution, draw, fill, kernel_in_use

print(fanin.__file__, kernel_in_use())
torch.set_num_threads(4)
normal, address = NormalDistribution(0.0, 1.0), Address(0, "a")
wanted = draw(normal, address, (1_000_000,))
targets = [torch.empty(1_000_000) for _ in range(8)]
workers = [threading.Thread(target=fill, args=(t, normal, address)) for t in targets]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert all(bool((t == wanted).all()) for t in targets)
for _ in range(200):
    fill(targets[0], normal, address)
print("no data race")
PYTHON
