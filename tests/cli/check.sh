#!/bin/bash
# check.sh - what the tests of commands share. Sourced by a test, which names itself with $0.
# In: $PG_BUILD/picograd.  Out: $picograd; $work, a folder that goes with the test; the counts.
export LC_ALL=C.UTF-8
unset PG_MODE PG_DEBUG PG_DUMP PG_KERNEL PG_CC PG_THREADS PG_ISA PG_BEAM PG_PRECISION PG_WINOGRAD PG_DEVICE
cd "$(dirname "$0")/../.." || exit 1
picograd=$(realpath "${PG_BUILD:-build}")/picograd
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

fail() {
    local file
    failed=$((failed + 1))
    echo "FAILED $1: $2"
    for file in out err; do
        [ ! -f "$work/$file" ] || head -c 2000 "$work/$file" | sed "s/^/    $file: /"
    done
}
# check NAME COMMAND...: a test that passes if the command does.
check() {
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else fail "$name" "$*"; fi
}
skip() {
    skipped=$((skipped + 1))
    echo "skip: $1: $2"
}
# shellcheck disable=SC2034  # status is for the tests
# try ARGUMENT...: runs picograd; $status, and its output in $work/out and $work/err.
try() {
    "$picograd" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
}
is() { [ "$1" = "$2" ]; }
