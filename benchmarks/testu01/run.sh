#!/bin/sh
# TestU01 (L'Ecuyer and Simard 2007) over the raw stream.  Needs Debian's libtestu01-0-dev
# (section non-free) and a C compiler.  Usage: run.sh [small|crush|big]   (seconds, half an hour, hours)
set -eu
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O2 -o "$work/stream" "$here/stream.c" -ltestu01 -ltestu01probdist -ltestu01mylib -lm
python - "$work/keys" <<'PYTHON'
import sys
from fanin.randomness.address import Address

with open(sys.argv[1], "wb") as file:
    for n in range(1 << 16):
        file.write(Address(n % 16, f"layers.{n // 16}.weight").key().to_bytes(8, "little"))
PYTHON
rounds=$(python -c "from fanin.randomness.philox import ROUNDS; print(ROUNDS)")
for order in elements reversed names; do
    nice -n 19 "$work/stream" "$rounds" "$order" "${1:-small}" "$work/keys"
done
