#!/bin/bash
# gpu_check_test.sh - without a GPU make gpu-check says so in one line, and leaves no report.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ -e /dev/nvidiactl ] || [ -e /dev/dxg ] && echo "there may be a GPU" && exit 77
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
BUILD=$work/build PG_DEVICE='' scripts/gpu_check.sh >"$work/out" 2>"$work/err"
status=$?
[ $status = 2 ] || { echo "status $status, not 2"; exit 1; }
[ "$(cat "$work/err")" = "gpu-check: there is no NVIDIA GPU here: /dev/nvidiactl is not there" ] ||
    { cat "$work/err"; exit 1; }
[ ! -s "$work/out" ] && [ ! -e "$work/build" ]
