#!/bin/bash
# header_test.sh - picograd.h stands alone, in C from C99 on and in C++, and a C++ program can call it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-Wall -Wextra -Wshadow -pedantic -Werror -Iinclude"
cat > "$work/use.c" <<'END'
#include "picograd.h"
PgTensor *use(PgTensor *x);
PgTensor *use(PgTensor *x) {
    x = pg_add(pg_mul(x, pg_scalar(2)), pg_zeros(PG_F32, PG_SHAPE(2, 3)));
    pg_assign(pg_slice(x, 0, 0, 1, 1), x);
    return pg_sum(pg_permute(x, PG_AXES(1, 0)), PG_ALL_AXES, false);
}
END
cp "$work/use.c" "$work/use.cc"
for standard in c99 c11 c17; do
    ${CC:-cc} -std=$standard $flags -fsyntax-only "$work/use.c"
done
command -v c++ >/dev/null || { echo "no C++ compiler"; exit 77; }
for compiler in c++ clang++; do
    command -v $compiler >/dev/null || continue
    for standard in c++11 c++17 c++20; do
        $compiler -std=$standard $flags -fsyntax-only "$work/use.cc"
    done
done
