#!/bin/bash
# gpu_check_test.sh - make gpu-check without a GPU: it says so in one line, and leaves no report. And
# rehearsed with stand-ins for make, picograd and the tests: each step runs, those after a failed one
# as well, none asks for a tokenizer, and none goes on past its limit.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
wrong() {
    echo "$1"
    cat "$work/out" "$work/err"
    exit 1
}
stand_in() {
    mkdir -p "$(dirname "$work/$1")"
    printf '#!/bin/sh\n%s\n' "$2" >"$work/$1"
    chmod +x "$work/$1"
}
check() { BUILD=$work/build PATH=$work/bin:$PATH scripts/gpu_check.sh "$@" >"$work/out" 2>"$work/err"; }

stand_in bin/make 'exit 0'
if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
    PG_DEVICE='' check
    [ $? = 2 ] || wrong "no GPU, but another status than 2"
    [ "$(cat "$work/err")" = "gpu-check: there is no NVIDIA GPU here: /dev/nvidiactl is not there" ] ||
        wrong "it is not said that there is no GPU"
    [ -s "$work/out" ] || [ -e "$work/build" ] && wrong "there is a report without a GPU"
fi

command -v python3 >/dev/null || { echo "no python3, for the rows of speed" && exit 77; }
for name in runtime/{cuda,prelude} ops/{values,golden,gradient,attention,programs} models/small; do
    stand_in "build/tests/${name}_test" 'echo "1 passed, 0 failed, 0 skipped"'
done
# shellcheck disable=SC2016  # of the stand-in
picograd='case "$1 $*" in
generate*$WRONG*simt*) echo 1 2 4 ;;
generate*) echo "$@" >>"$0.calls" && echo 1 2 3 ;;
bench*) echo "{\"median\": 100.0, \"unit\": \"tok/s\"}" ;;
esac'
stand_in build/picograd "$picograd"
export PG_DEVICE=simt
WRONG=none check some.gguf || wrong "a rehearsal fails"
[ "$(grep -c '^-- well' "$work/out")" = "$(grep -c '^== ' "$work/out")" ] || wrong "a step fails"
[ "$(grep -c -- '--prompt-ids' "$work/build/picograd.calls")" = "$(wc -l <"$work/build/picograd.calls")" ] ||
    wrong "a prompt needs a tokenizer"
grep -q -- '-m some.gguf.*--device simt' "$work/build/picograd.calls" || wrong "the file is left out"
grep -q '^decode:4 random:tiny ' "$work/out" || wrong "no row of a model"
cmp -s "$work/out" "$work/build/gpu-check.txt" || wrong "the report is not what was said"
steps=$(grep -c '^== ' "$work/out")

WRONG=random:tiny check some.gguf && wrong "other tokens than the CPU's pass"
grep -q "^the CPU's: 1 2 3" "$work/out" || wrong "the CPU's tokens are not said"
grep -q '^gpu-check: 1 of the steps failed' "$work/out" || wrong "one step fails, which is not said"
[ "$(grep -c '^== ' "$work/out")" = "$steps" ] || wrong "steps are left out after one that failed"

stand_in build/tests/ops/golden_test 'sleep 60'
WRONG=none STEP_SECONDS=2 check && wrong "a step without an end passes"
grep -q '^-- stopped after 2 s' "$work/out" || wrong "a step goes on past its limit"
echo "make gpu-check runs what it has, and says what it has not"
