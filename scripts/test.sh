#!/bin/bash
# test.sh BUILD [DEVICE:]PROGRAM... - runs test programs and scripts one after the other and sums
# them. With a device, on that one: simt:build/tests/ops/values_test is with PG_DEVICE=simt.
# A program ends with `N passed, N failed, N skipped` and may print `skip: name: reason` lines. One
# that prints no counts is one test: status 0 passed, 77 skipped (its last line says why), else failed.
# Out: a line for each program, all output of those that fail, the reasons for skips, the sum.
set -u
export PG_BUILD=$1
shift
logs=$PG_BUILD/test-logs
rm -rf "$logs" "$PG_BUILD/test-summary"
mkdir -p "$logs"
# Impossible allocations must reach picograd's own check.
export ASAN_OPTIONS=allocator_may_return_null=1:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
# Tests have caches of their own, and NVRTC may lie in the usual one.
nvrtc=${PG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/picograd}/nvrtc/libnvrtc.so.13
[ -z "${PG_NVRTC:-}" ] && [ -e "$nvrtc" ] && export PG_NVRTC=$nvrtc

# Kernels for GPUs leave their texts for tests/codegen/cuda_text_test.c.
rm -rf "$PG_BUILD/cuda-text"
mkdir -p "$PG_BUILD/cuda-text"
PG_CUDA_TEXT=$(realpath "$PG_BUILD/cuda-text") && export PG_CUDA_TEXT

passed=0 failed=0 skipped=0
reasons=()
for program in "$@"; do
    device=${program%%:*}
    [ "$device" = "$program" ] && device=
    program=${program#*:}
    name=${program#"$PG_BUILD"/}
    name=${name#tests/}${device:+ on $device}
    log=$logs/$(tr '/ ' '--' <<<"$name")
    start=$SECONDS
    PG_DEVICE=${device:-${PG_DEVICE:-}} \
        timeout -k 10 "${PG_TEST_SECONDS:-900}" "$program" >"$log" 2>&1 </dev/null
    status=$?
    counts=$(grep -aE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -1)
    if [ -n "$counts" ]; then
        read -r p _ f _ s _ <<<"$counts"
        # Dead after its last test, by a sanitizer at exit for one.
        [ $status != 0 ] && [ "$f" = 0 ] && f=1
        while read -r line; do reasons+=("$name ${line#skip: }"); done < <(grep -a '^skip: ' "$log")
    else
        p=0 f=0 s=0
        case $status in
        0) p=1 ;;
        77) s=1 && reasons+=("$name: $(tail -1 "$log")") ;;
        *) f=1 ;;
        esac
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    took=$((SECONDS - start))
    printf '%-6s %-32s %4d passed' "$([ "$f" = 0 ] && echo ok || echo FAILED)" "$name" "$p"
    [ "$f" != 0 ] && printf ', %d failed' "$f"
    [ "$s" != 0 ] && printf ', %d skipped' "$s"
    [ "$took" -gt 1 ] && printf ', %d s' "$took"
    echo
    if [ "$f" != 0 ]; then
        [ $status = 124 ] && echo "    stopped after ${PG_TEST_SECONDS:-900} s"
        grep -avE '^\[ (RUN  |      OK)' "$log" | tail -200 | sed 's/^/    /'
        echo "    exit status $status"
    fi
done
for reason in "${reasons[@]}"; do echo "skipped: $reason"; done
echo "$passed passed, $failed failed, $skipped skipped" | tee "$PG_BUILD/test-summary"
[ "$failed" = 0 ]
