#!/bin/bash
# examples_test.sh - the numbered examples compile without a warning and print what they say at
# their ends, where ... stands for any text in a line; eagerly, too, but for models.
set -u
export LC_ALL=C.UTF-8
unset PG_MODE PG_DEBUG PG_DUMP PG_KERNEL PG_ISA PG_THREADS
cd "$(dirname "$0")/../.." || exit 1
build=$(realpath "${PG_BUILD:-build}")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
read -r cc _ <"$build/flags"
mapfile -t sanitize < <(grep -o -e '-fsanitize=[^ ]*' "$build/flags" | sed -n 1p)
passed=0 failed=0 skipped=0

fail() {
    failed=$((failed + 1))
    echo "FAILED $1"
    sed 's/^/    /' "$work/out"
}
skip() {
    skipped=$((skipped + 1))
    echo "skip: $1: $2"
}
# says WORD FILE: the lines of its comment that begins with that word.
says() { sed -n "/^\/\* $1:/,/^ \*\//{ /^\/\*/d; /^ \*\//d; s/^ \* \{0,3\}//p; }" "$2"; }
matches() {
    local -a printed wanted
    local i
    mapfile -t printed <"$work/out"
    mapfile -t wanted < <(sed 's/[^[:alnum:][:space:].]/\\&/g; s/\.\.\./*/g' "$work/wanted")
    [ ${#printed[@]} = ${#wanted[@]} ] || return 1
    for i in "${!wanted[@]}"; do
        # shellcheck disable=SC2053  # it is a pattern
        [[ ${printed[i]} == ${wanted[i]} ]] || return 1
    done
}
# run NAME SETTING...: does the program print that?
run() {
    local name=$1
    shift
    if env "$@" "$work/program" <"$work/in" >"$work/out" 2>&1 && matches; then passed=$((passed + 1)); else
        fail "$name $*"
        diff "$work/wanted" "$work/out"
    fi
}

for example in examples/[0-9]*.c; do
    says Prints "$example" >"$work/wanted"
    says Reads "$example" >"$work/in"
    : >"$work/out"
    [ -s "$work/wanted" ] || fail "$example does not say what it prints"
    if ! "$cc" -std=c11 -Wall -Wextra -Wshadow -pedantic -Werror "${sanitize[@]}" -Iinclude "$example" \
        "$build/libpicograd.so" -Wl,-rpath,"$build" -lpthread -o "$work/program" >"$work/out" 2>&1
    then
        fail "$example does not compile"
        continue
    fi
    if grep -q pg_model_open "$example"; then
        "$build/picograd" tokenize -m smollm2 -p . >/dev/null 2>&1 ||
            { skip "$example" "smollm2 is not here; picograd models pull smollm2" && continue; }
        run "$example"
        continue
    fi
    run "$example"
    grep -q pg_set_mode "$example" || run "$example" PG_MODE=eager
done
# 05 says that PG_DUMP prints kernels.
"$cc" "${sanitize[@]}" -Iinclude examples/05_trace.c "$build/libpicograd.so" -Wl,-rpath,"$build" \
    -o "$work/program" && PG_DUMP=fuse "$work/program" >"$work/out" 2>&1
if [ "$(grep -c '^kernel ' "$work/out")" = 3 ]; then passed=$((passed + 1)); else
    fail "05_trace.c under PG_DUMP=fuse has not three kernels"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
