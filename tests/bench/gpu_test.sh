#!/bin/bash
# gpu_test.sh - what bench/gpu.py makes of picograd's rows: a stand-in says what a GPU would have.
# In: bench/gpu.py; PyTorch where it is there, on the CPU.  Out: a line a failure, the counts.
set -u
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 CUDA_VISIBLE_DEVICES=''
cd "$(dirname "$0")/../.." || exit 1
command -v python3 >/dev/null || { echo "no python3, with which the benchmark runs" && exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() { # name, command...
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)) && return; fi
    failed=$((failed + 1))
    echo "FAILED $name: $*"
    sed 's/^/    /' "$work/out" "$work/err"
}
is() { [ "$1" = "$2" ]; }
prints() { grep -qE -- "$1" "$work/out"; }

cat >"$work/picograd" <<'END'
#!/bin/sh
echo "$PG_CUDA_GRAPH $*" >>"$0.calls"
echo 'picograd: compiled 250 kernels, 9 of them different, 0 from the cache, in 5 ms; 1 MB' >&2
echo 'picograd: compiled 2 kernels, 2 of them different, 0 from the cache, in 5 ms; 1 MB' >&2
case $2 in
prefill*) echo 'picograd: no room for 1 GB' >&2 && exit 1 ;;
decode*) echo '{"row": "x", "median": 400.0, "unit": "tok/s"}' ;;
*) echo '{"row": "x", "median": 50.0, "unit": "GB/s"}' ;;
esac
END
chmod +x "$work/picograd"
gpu() {
    : >"$work/picograd.calls"
    python3 "${without[@]}" bench/gpu.py --picograd "$work/picograd" "$@" >"$work/out" 2>"$work/err"
    status=$?
}

# Without PyTorch: -S hides what is installed.
without=(-S)
gpu softmax:64x64
check "a row: status" test $status = 0
check "a row alone" prints '^softmax:64x64 +fp32 +50\.0 GB/s$'
check "how it is asked for" grep -qx '1 bench softmax:64x64 --device cuda --json - --precision fp32' \
    "$work/picograd.calls"
gpu --part models -m some.gguf
check "a row that fails: status" test $status = 1
check "a row that fails says why" prints '^prefill:512 random:1b +fp32 +picograd: no room for 1 GB$'
check "2500 us in 250 kernels" prints '^decode:128 random:tiny +fp32 +400\.0 tok/s  250 kernels, 10\.00 us each$'
check "kernel by kernel" prints '^decode:128 random:1b .* kernel by kernel .* 250 kernels'
check "no graph for it" grep -q '^0 bench decode:128 .* -m random:1b$' "$work/picograd.calls"
check "a file" prints '^decode:128 some.gguf +fp32 +400\.0 tok/s'
gpu --part kernels
check "fp32 and tf32" is "$(grep -c matmul:4096 "$work/out")" 2

# With it: the same by PyTorch, on the CPU.
without=()
skipped=0
if python3 -c 'import torch' 2>/dev/null; then
    gpu --rehearse --part models
    check "decode: both, and shares of a copy" prints '^decode:4 random:tiny .* torch +[0-9.]+  ratio [0-9.]+  of a copy [0-9.]+ and [0-9.]+  250'
    check "random:1b has as many weights as picograd's" is "$(cd bench && python3 -c 'import torch, torch_llama
print(torch_llama.random("random:1b", torch.bfloat16, 8, "meta").weight_bytes())')" 2471628800
else
    skipped=1
    echo "skip: PyTorch: it is not installed"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
