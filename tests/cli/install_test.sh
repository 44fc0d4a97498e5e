#!/bin/bash
# install_test.sh - make install: a C and a C++ program are built against the installed copy by what
# pkg-config says alone, shared and static, and run; make uninstall leaves nothing behind. Folders
# have blanks in their names. Nothing is built anew: what make built is installed.
set -u
export LC_ALL=C.UTF-8
unset PG_MODE PG_DEBUG PG_DUMP PG_KERNEL PG_ISA PG_THREADS MAKEFLAGS MAKELEVEL MFLAGS
unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
cd "$(dirname "$0")/../.." || exit 1
build=${PG_BUILD:-build}
[ -x "$build/picograd" ] || { echo "no $build/picograd; run make first" && exit 1; }
command -v pkg-config >/dev/null || { echo "no pkg-config here" && exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# check NAME COMMAND...: a test that passes if the command does.
check() {
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED $name: $*"
        head -c 1000 "$work/out" | sed 's/^/    /'
    fi
}
skip() {
    skipped=$((skipped + 1))
    echo "skip: $1: $2"
}
is() { [ "$1" = "$2" ] || { echo "'$1', not '$2'" && false; }; }
# -o: flags of another make are no reason to build anew.
run_make() { make --no-print-directory -o "$build/flags" BUILD="$build" "$@"; }
files_below() { find "$1" -mindepth 1 "${@:2}" | sort; }

# The compilers that picograd was built with, and its sanitizers.
read -r cc _ <"$build/flags"
case $cc in
*clang*) cxx=${cc/clang/clang++} ;;
*gcc*) cxx=${cc/gcc/g++} ;;
*) cxx=${cc/%cc/c++} ;;
esac
mapfile -t sanitize < <(grep -o -e '-fsanitize=[^ ]*' "$build/flags" | sed -n 1p)
cat >"$work/c.txt" <<'END'
loss 2.50
[ -7. -10.]
say done
END
cat >"$work/cc.txt" <<'END'
sum 2.0000
[[ 1.  8.]
 [27. 64.]]
status -1: use.cc:22: reshape: (2, 2) does not become (3). Hint: the products of the sizes must be equal
cannot open no/such.gguf
END

# use NAME LANGUAGE FOLDER [--static]: builds a program as a user would, runs it beside the library.
use() {
    local name=$1 language=$2 folder=$3 static=${4:-} compiler=$cc standard=c11
    local ask=(pkg-config ${static:+"$static"} --cflags --libs picograd) flags
    [ "$language" = cc ] && compiler=$cxx standard=c++17
    command -v "$compiler" >/dev/null || { skip "$name" "no $compiler here" && return; }
    check "$name: pkg-config" "${ask[@]}"
    # A shell reads what it says, as in eval: blanks are escaped.
    eval "flags=($("${ask[@]}"))"
    rm -f "$work/use"
    check "$name: builds" env -C tests/cli/install "$compiler" -std=$standard -Wall -Wextra \
        -pedantic -Werror "${sanitize[@]}" "use.$language" "${flags[@]}" -o "$work/use"
    check "$name: runs" env LD_LIBRARY_PATH="$folder" "$work/use"
    check "$name: prints" is "$(<"$work/out")" "$(<"$work/$language.txt")"
    check "$name: is linked ${static:-shared}" is "$(ldd "$work/use" | grep -c libpicograd.so.0)" \
        "$([ "$static" ] && echo 0 || echo 1)"
}

# ---- below a folder with a blank in its name ----------------------------------------------------
prefix="$work/some where"
check "install" run_make install PREFIX="$prefix"
for file in bin/picograd include/picograd.h lib/libpicograd.a lib/libpicograd.so \
    lib/pkgconfig/picograd.pc share/man/man1/picograd.1 share/man/man1/picograd-generate.1 \
    share/bash-completion/completions/picograd; do
    check "$file is there" test -s "$prefix/$file"
done
version=$("$prefix/bin/picograd" --version)
version=${version#picograd }
check "links" is "$(readlink "$prefix/lib/libpicograd.so"; readlink "$prefix/lib/libpicograd.so.0")" \
    "libpicograd.so.0"$'\n'"libpicograd.so.$version"
if command -v objdump >/dev/null; then
    check "SONAME" is "$(objdump -p "$prefix/lib/libpicograd.so" | awk '/SONAME/ { print $2 }')" \
        "libpicograd.so.0"
fi
names() { nm --defined-only "$@" | awk 'NF == 3 && $2 ~ /[A-Z]/ { print $3 }'; }
others() { names "$@" | grep -v '^pg_'; }
check "the shared library exports pg_ names alone" is "$(others -D "$prefix/lib/libpicograd.so")" ""
check "and every one of picograd.h's" is \
    "$(comm -13 <(names -D "$prefix/lib/libpicograd.so" | sort) \
        <(sed -n 's/^PG_API.*[ *]\(pg_[a-z0-9_]*\)(.*/\1/p' include/picograd.h | sort))" ""
if [ ${#sanitize[@]} = 0 ]; then
    check "so does the static one" is "$(others -g "$prefix/lib/libpicograd.a")" ""
fi
check "a manual page" is "$(man -M "$prefix/share/man" -w picograd-generate 2>&1)" \
    "$prefix/share/man/man1/picograd-generate.1"
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
check "pkg-config: version" is "$(pkg-config --modversion picograd)" "$version"
for language in c cc; do use "$language, shared" $language "$prefix/lib"; done
if "$build/picograd" tokenize -m smollm2 -p . >/dev/null 2>&1; then
    eval "flags=($(pkg-config --cflags --libs picograd))"
    check "an example builds" "$cc" "${sanitize[@]}" examples/01_generate.c "${flags[@]}" \
        -o "$work/use"
    check "an example runs" env LD_LIBRARY_PATH="$prefix/lib" "$work/use"
    check "an example prints" is "$(cut -c1-40 "$work/out")" \
        " the universe is governed by the second "
else
    skip "an example" "smollm2 is not here; picograd models pull smollm2"
fi

moved=$work/elsewhere
mv "$prefix" "$moved"
check "a tree that was moved" is \
    "$(PKG_CONFIG_PATH="$moved/lib/pkgconfig" pkg-config --define-prefix --cflags picograd | xargs)" \
    "-I$moved/include"
mv "$moved" "$prefix"
check "uninstall" run_make uninstall PREFIX="$prefix"
check "nothing is left" is "$(files_below "$prefix")" ""

# ---- as distributions do it: DESTDIR, GNU's names, a folder of libraries for the machine ---------
stage="$work/the stage"
gnu=(prefix=/opt/pg libdir=/opt/pg/lib/x86_64-linux-gnu mandir=/opt/pg/man DESTDIR="$stage")
check "install to DESTDIR" run_make install "${gnu[@]}"
check "libdir" test -s "$stage/opt/pg/lib/x86_64-linux-gnu/libpicograd.so.$version"
check "mandir" test -s "$stage/opt/pg/man/man1/picograd.1"
check "DESTDIR is in no file" is "$(grep -rlF "$stage" "$stage" | grep -v "\.so\|\.a\|bin/")" ""
export PKG_CONFIG_PATH="$stage/opt/pg/lib/x86_64-linux-gnu/pkgconfig" PKG_CONFIG_SYSROOT_DIR=$stage
rm "$stage"/opt/pg/lib/x86_64-linux-gnu/*.so*
for language in c cc; do use "$language, static" $language "" --static; done
unset PKG_CONFIG_SYSROOT_DIR
touch "$stage/opt/pg/bin/mine"
check "uninstall from DESTDIR" run_make uninstall "${gnu[@]}"
check "what is not picograd's stays" is "$(files_below "$stage" ! -type d)" "$stage/opt/pg/bin/mine"

check "LIBDIR=" run_make install PREFIX="$prefix" LIBDIR="$prefix/lib64" INCLUDEDIR="$work/headers"
check "LIBDIR= is used" test -s "$prefix/lib64/libpicograd.a"
check "a folder elsewhere is named in full" is \
    "$(PKG_CONFIG_PATH="$prefix/lib64/pkgconfig" pkg-config --cflags --libs picograd | xargs)" \
    "-I$work/headers -L$prefix/lib64 -lpicograd"
check "uninstall LIBDIR=" run_make uninstall PREFIX="$prefix" LIBDIR="$prefix/lib64" \
    INCLUDEDIR="$work/headers"
check "nothing is left there either" is "$(files_below "$prefix" ; files_below "$work/headers")" ""
run_make install PREFIX=some >"$work/said" 2>&1
check "a relative PREFIX is refused" grep -qF "give it from the root" "$work/said"
check "and nothing is made" test ! -e some

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
