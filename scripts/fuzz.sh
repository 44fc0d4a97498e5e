#!/bin/bash
# fuzz.sh BUILD SECONDS [TARGET...] - runs the fuzz targets that lie in BUILD, two at a time.
# In: the inputs of tests/fuzz/corpus and those that BUILD/tests/fuzz/corpus makes.
# Out: a line for each target; status 1 if one has a finding, which BUILD/findings keeps beside the
# target's output. What a run found worth keeping stays in BUILD/found for the next.
# An input that takes PG_FUZZ_TIMEOUT=10 seconds, by the clock, is one: more on a busy machine.
# `fuzz.sh clang`: is there a clang that can build them with libFuzzer?
set -u
if [ "$1" = clang ]; then
    probe=$(mktemp)
    trap 'rm -f "$probe"' EXIT
    echo 'int LLVMFuzzerTestOneInput(const char *at, unsigned long size) { return at[0] && !size; }' |
        clang -x c -fsanitize=fuzzer,address,undefined - -o "$probe" 2>/dev/null
    exit
fi
build=$1 seconds=$2
shift 2
export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
case $seconds in '' | *[!0-9]*) echo "fuzz: SECONDS=$seconds is not a number" >&2; exit 2 ;; esac
mkdir -p "$build/findings"
"$build/tests/fuzz/corpus" "$build/corpus" || exit 1

run() {
    local name=$1 target=$build/tests/fuzz/$1_fuzz folder log
    log=$build/findings/$name.log
    local folders=("$build/found/$name")
    mkdir -p "${folders[0]}"
    rm -f "$build/findings/$name-"*
    for folder in "tests/fuzz/corpus/$name" "$build/corpus/$name"; do
        [ -d "$folder" ] && folders+=("$folder")
    done
    local words=()
    [ -f "tests/fuzz/$name.dict" ] && words=(-dict="tests/fuzz/$name.dict")
    # The braces: bash says nothing of a target that ends with a signal; the line below does.
    {
        "$target" -max_total_time="$seconds" -timeout="${PG_FUZZ_TIMEOUT:-10}" -rss_limit_mb=2048 \
            -max_len=65536 -report_slow_units=100000 -print_final_stats=1 \
            -artifact_prefix="$build/findings/$name-" "${words[@]}" "${folders[@]}" \
            >"$log" 2>&1 </dev/null
    } 2>/dev/null
    local status=$? runs covered kept
    runs=$(grep -ao 'stat::number_of_executed_units: *[0-9]*\|^Done [0-9]* runs' "$log" | tail -1 |
        grep -o '[0-9][0-9]*')
    covered=$(grep -ao 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    kept=$(find "$build/findings" -name "$name-*" | wc -l)
    [ "$status" != 0 ] && [ "$kept" = 0 ] && kept=1
    printf '%-6s %-12s %5d s %10s runs, %6s edges covered, %d findings\n' \
        "$([ "$status" = 0 ] && echo ok || echo FAILED)" "$name" "$seconds" "${runs:-no}" \
        "${covered:-?}" "$kept"
    [ "$status" = 0 ] || grep -aE '^fuzz: |SUMMARY|ERROR: ' "$log" | sed 's/^/    /' | head -5
    return "$status"
}

[ $# = 0 ] && set -- $(cd "$build/tests/fuzz" && ls ./*_fuzz | sed 's|^\./\(.*\)_fuzz$|\1|')
bad=0 running=0
for name in "$@"; do
    run "$name" &
    running=$((running + 1))
    if [ "$running" = 2 ]; then
        wait -n || bad=1
        running=1
    fi
done
while [ "$running" -gt 0 ]; do
    wait -n || bad=1
    running=$((running - 1))
done
[ "$bad" = 0 ] || echo "fuzz: the inputs and outputs of what was found lie in $build/findings" >&2
exit "$bad"
