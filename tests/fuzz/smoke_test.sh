#!/bin/bash
# smoke_test.sh - every fuzz target runs its inputs as they are, then a few hundred changed ones.
# `make fuzz` does that for minutes.
set -u
inputs=$PG_BUILD/corpus
"$PG_BUILD/tests/fuzz/corpus" "$inputs" || exit 1
for target in "$PG_BUILD"/tests/fuzz/*_fuzz; do
    name=$(basename "$target" _fuzz) folders=()
    for folder in "tests/fuzz/corpus/$name" "$inputs/$name"; do
        [ -d "$folder" ] && folders+=("$folder")
    done
    [ ${#folders[@]} = 0 ] && echo "$name has no inputs in this build" && continue
    "$target" -runs="${PG_FUZZ_RUNS:-500}" -timeout=100 -artifact_prefix="$inputs/$name-" \
        "${folders[@]}" || exit 1
done
