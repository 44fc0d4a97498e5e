#!/bin/bash
# setup_test.sh - scripts/deps.sh where nothing can be installed: it names what is missing, says in
# one line what apt said in many, and fails only for what is required. Its apt-get, sudo and
# pkg-config are stand-ins; nothing is installed.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
stand_in() {
    printf '#!/bin/sh\n%s\n' "$2" >"$work/$1"
    chmod +x "$work/$1"
}
stand_in pkg-config 'exit 1'
stand_in sudo 'shift; exec "$@"'
stand_in apt-get 'for i in $(seq 50); do echo "E: Failed to fetch number $i" >&2; done; exit 100'
wrong() {
    echo "$1"
    cat "$work/out"
    exit 1
}

PATH=$work:$PATH scripts/deps.sh >"$work/out" 2>&1 || wrong "what is optional is required"
grep -q '^installing libcmocka-dev libpcre2-dev' "$work/out" || wrong "what is missing is not named"
[ "$(grep -c 'Failed to fetch' "$work/out")" = 1 ] || wrong "apt's errors are not one line"
grep -q '^note: without libpcre2-dev (.*)$' "$work/out" || wrong "what it is for is not said"
PATH=$work:$PATH scripts/deps.sh test >"$work/out" 2>&1 && wrong "tests run without cmocka"
grep -q '^required and missing: libcmocka-dev' "$work/out" || wrong "what is required is not named"
stand_in sudo 'exit 1'
if [ "$(id -u)" != 0 ]; then
    PATH=$work:$PATH scripts/deps.sh >"$work/out" 2>&1 || wrong "what is optional is required"
    grep -q 'as root: *apt-get update && apt-get install' "$work/out" || wrong "no command is printed"
fi

# NVRTC where nothing has it and nothing can be had, and where it is.
stand_in ldconfig ''
stand_in python3 'echo "ERROR: No matching distribution" >&2; exit 1'
nvrtc() {
    env -u PG_NVRTC -u CUDA_HOME PATH="$work:$PATH" PG_CACHE="$work/cache" "$@" >"$work/out" 2>&1
}
nvrtc scripts/nvrtc.sh || wrong "NVRTC is required"
grep -q '^note: without NVRTC.*: ERROR: No matching distribution$' "$work/out" ||
    wrong "NVRTC lacks a note"
[ -z "$(ls "$work/cache")" ] || wrong "half an NVRTC is left"
mkdir "$work/lib64" && : >"$work/lib64/libnvrtc.so.13"
nvrtc env CUDA_HOME="$work" scripts/nvrtc.sh || wrong "NVRTC of a toolkit fails"
[ -s "$work/out" ] && wrong "NVRTC is fetched though a toolkit has it"
echo "set-up says what it lacks"
