#!/bin/bash
# cuda_test.sh - programs for any device, on CUDA: stand-ins for a GPU's driver and for NVRTC run
# their kernels on simt, and let nobody use memory of the other side.
set -u
build=${PG_BUILD:-build}
programs="tensor/trace tensor/optim tensor/assign"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
read -r cc _ <"$build/flags"
for name in $programs; do
    [ -x "$build/tests/${name}_test" ] || { echo "$name is not built"; exit 77; }
done
flags="-std=gnu11 -shared -fPIC -w -fvisibility=hidden -Isrc -Itests/runtime"
# shellcheck disable=SC2046,SC2086  # words
"$cc" $flags tests/runtime/driver.c -o "$work/libcuda.so" -Wl,-u,simt_launch \
    "$build/libpicograd.a" -Wl,-Bsymbolic -ldl -lm -lpthread \
    $(pkg-config --libs libpcre2-8 2>/dev/null || true)
# shellcheck disable=SC2086  # words
"$cc" $flags tests/runtime/compiler.c -o "$work/libnvrtc.so"
export PG_LIBCUDA=$work/libcuda.so PG_NVRTC=$work/libnvrtc.so STAND_IN_FOLDER=$work
export PG_CACHE=$work/cache PG_DEVICE=cuda
passed=0 failed=0 skipped=0
for name in $programs; do
    "$build/tests/${name}_test" >"$work/log" 2>&1 || cat "$work/log"
    read -r p _ f _ s _ <<<"$(grep -aE '^[0-9]+ passed, [0-9]+ failed' "$work/log" || echo 0 - 1 - 0)"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
