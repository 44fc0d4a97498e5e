#!/bin/bash
# nvrtc.sh - gets NVIDIA's run-time compiler, which needs no GPU, where there is none.
# In: the pinned, hashed list nvrtc.txt.  Out: the folder nvrtc in picograd's cache folder, whole or
# not at all; where it cannot be had, a note.
set -u
list=$(cd "$(dirname "$0")" && pwd)/nvrtc.txt
cache=${PG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/picograd}

# Where src/runtime/nvrtc.c looks.
found() {
    [ -n "${PG_NVRTC:-}" ] && return
    compgen -G "$cache/nvrtc/libnvrtc.so.1[23]" && return
    compgen -G "${CUDA_HOME:-/nowhere}/lib*/libnvrtc.so.1[23]" && return
    ldconfig -p | grep -E 'libnvrtc\.so\.1[23] ' && return
    PATH="${VIRTUAL_ENV:+$VIRTUAL_ENV/bin:}$PATH" python3 -c 'import glob, sys
name = "/nvidia/*/lib/libnvrtc.so.1[23]"
sys.exit(not any(glob.glob(glob.escape(path or ".") + name) for path in sys.path))'
}

fetch() {
    python3 -m pip --disable-pip-version-check --retries 1 download --no-deps --require-hashes \
        -r "$list" -d "$work" &&
        python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
for name in wheel.namelist():
    if "/libnvrtc" in name and ".alt." not in name:
        with open(sys.argv[2] + "/" + name.split("/")[-1], "wb") as file:
            file.write(wheel.read(name))' "$work"/*.whl "$work/nvrtc" &&
        mv -T "$work/nvrtc" "$cache/nvrtc"
}

found >/dev/null 2>&1 && exit
echo "fetching NVRTC, which compiles for NVIDIA GPUs: 90 MB"
umask 077
mkdir -p "$cache" && work=$(mktemp -d "$cache/nvrtc-XXXXXX") && mkdir "$work/nvrtc" || exit 0
trap 'rm -rf "$work"' EXIT
fetch >"$work/log" 2>&1 || found >/dev/null 2>&1 ||
    echo "note: without NVRTC, nothing is compiled for NVIDIA GPUs: $(tail -1 "$work/log")" >&2
exit 0
