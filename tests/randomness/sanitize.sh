#!/bin/sh
# The kernel's tests under sanitizers: `sanitize.sh address` for addresses and undefined behaviour,
# `sanitize.sh thread` for data races.  Builds aside, and tests the copy built.
# Needs g++ with libasan, libubsan and libtsan; where there is none it says so and does nothing,
# but fails where FANIN_REQUIRE_COMPILER=1, as in CI.
set -eu
kind=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

# GCC prints the bare name of a library that it does not have.
case "$kind" in
    address) flags=address,undefined libraries="libasan.so libubsan.so" ;;
    thread) flags=thread libraries=libtsan.so ;;
    *) echo "usage: sanitize.sh address|thread" >&2 && exit 2 ;;
esac
preload=
for library in $libraries; do
    found=$(g++ -print-file-name="$library" 2>/dev/null) || found=$library
    if [ "$found" = "$library" ]; then
        echo "sanitize.sh: no g++ with $library here; the kernel is not tested with sanitizers" >&2
        [ "${FANIN_REQUIRE_COMPILER:-}" != 1 ] || exit 1
        exit 0
    fi
    preload="$preload $found"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src"
cp -r "$root/src/fanin" "$work/src/fanin"
rm -f "$work"/src/fanin/randomness/_kernel*.so
{
    cmake -G Ninja -S "$work/src/fanin/randomness/cpp" -B "$work/build" -DFANIN_INPLACE=ON \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=g++ -DFANIN_SANITIZE="$flags" \
        -DPython_EXECUTABLE="$(command -v python)" && cmake --build "$work/build"
} >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
export PYTHONPATH="$work/src" OMP_NUM_THREADS=1
# From the copy's own folder: no other build of the kernel may be the one that is tested.
cd "$work"

if [ "$kind" = address ]; then
    # Python itself leaks by design, and torch's libraries are not instrumented: only the kernel is.
    export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
    # A build that cannot be imported would leave the tests to the array program.
    LD_PRELOAD="$preload" python -c "import fanin.randomness._kernel as k; print(k.__file__, k.widths())"
    LD_PRELOAD="$preload" python -m pytest -q -n 2 -p no:cacheprovider --rootdir "$here" -c /dev/null \
        "$here/test_bits.py" "$here/test_addresses.py" "$here/test_golden.py" \
        "$here/test_bad_input.py" "$here/test_choice.py"
else
    TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" LD_PRELOAD="$preload" \
        python "$here/race.py"
fi
