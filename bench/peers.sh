#!/bin/bash
# peers.sh [PEER...] - installs what picograd is measured beside: openblas, torch, llama(.cpp),
# tinygrad.
# In: the pinned, hashed lists bench/peers/*.txt.  Out: a private Python environment under the cache
# folder of picograd; one line per peer. A peer that cannot be had is a note, never a failure.
# Done once: a second call finds the same lists installed and does nothing.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cache=${PG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/picograd}
venv=$cache/peers/venv
log=$cache/peers/log.txt

note() { echo "note: $*" >&2; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@" >>"$log" 2>&1; }

environment() {
    [ -x "$venv/bin/python" ] && return
    if ! python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
        note "no peers: they are pinned for Python 3.11 to 3.13, here is $(python3 --version 2>&1)"
        return 1
    fi
    rm -rf "$venv"
    (umask 077 && mkdir -p "$cache/peers") && python3 -m venv "$venv" >>"$log" 2>&1 && return
    rm -rf "$venv"
    note "no peers: python3 -m venv failed (see $log); as root: apt-get install python3-venv"
    return 1
}

# install FILE PIP-OPTION...
install() {
    local list=$here/peers/$1.txt
    shift
    pip install --require-hashes --no-deps -r "$list" "$@"
}

# GCC 12 miscompiles llama.cpp's AMX kernels, so clang 19 builds it, on every machine alike; and it
# compiles tinygrad's kernels.
compiler() {
    command -v clang++-19 >/dev/null && return
    local apt=(apt-get install -y --no-install-recommends --no-remove) as_root=()
    [ "$(id -u)" != 0 ] && as_root=(sudo -n)
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        note "llama.cpp and tinygrad need clang 19; as root: ${apt[*]} clang-19 libomp-19-dev g++"
        return 1
    fi
    echo "installing clang-19"
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    "${as_root[@]}" apt-get update -qq >>"$log" 2>&1
    # libomp-19-dev cannot stand beside another version's; llama.cpp has threads of its own, too.
    "${as_root[@]}" "${apt[@]}" clang-19 libomp-19-dev g++ >>"$log" 2>&1 ||
        "${as_root[@]}" "${apt[@]}" clang-19 g++ >>"$log" 2>&1
    command -v clang++-19 >/dev/null && return
    note "llama.cpp and tinygrad need clang 19, which apt could not install (see $log)"
    return 1
}

install_openblas() { install openblas; }

install_torch() {
    echo "fetching PyTorch: 2.8 GB, 5 GB on disk"
    install torch && install llama-needs  # gguf, which reads model files
}

install_tinygrad() { compiler && install tinygrad; }

install_llama() {
    compiler && install llama-needs || return 1
    echo "building llama.cpp for this CPU with clang 19: several minutes"
    # No cache: a wheel that was built for another CPU must not come back from it.
    CC=clang-19 CXX=clang++-19 CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF" \
        CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)} PATH=$venv/bin:$PATH \
        install llama --no-build-isolation --no-cache-dir --no-binary llama-cpp-python \
        --force-reinstall
}

# What an installed peer depends on: its lists, and for llama.cpp the CPU.
wanted() {
    cat "$here/peers/$1"*.txt
    [ "$1" = llama ] && grep -m1 'model name' /proc/cpuinfo
    return 0
}

environment || exit 0
[ $# = 0 ] && set -- openblas torch llama tinygrad
for peer in "$@"; do
    stamp=$venv/installed-$peer
    if ! wanted "$peer" | cmp -s - "$stamp"; then
        if ! "install_$peer"; then
            note "no $peer: it could not be installed (see $log)"
            continue
        fi
        wanted "$peer" >"$stamp"
    fi
    version=$(grep -oE '^(numpy|torch|llama-cpp-python|tinygrad)==[0-9.]+' "$here/peers/$peer.txt" | tail -1)
    echo "peer $peer: $version"
done
