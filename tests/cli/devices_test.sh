#!/bin/bash
# devices_test.sh - picograd devices says what this machine says of itself, and what a GPU's driver
# says: a stand-in, since most machines have none.
set -u
. "$(dirname "$0")/check.sh"
unset OMP_NUM_THREADS OMP_THREAD_LIMIT LD_LIBRARY_PATH
build=${PG_BUILD:-build}

devices() { "$picograd" devices "$@" >"$work/out" 2>"$work/err"; }
line() { sed -n "s/^$1 *//p" "$work/out"; }
field() { sed -n "s/^  \"$1\": \(.*[^,]\),\{0,1\}\$/\1/p" "$work/out"; }

# ---- this machine -------------------------------------------------------------------------------
devices
check "status" is $? 0
check "nothing else is said" is "$(<"$work/err")" ""
if ! grep -qE '^[0-9]' /sys/fs/cgroup/cpu.max 2>/dev/null; then
    check "as many threads as nproc says" is "$(line threads | cut -d' ' -f1)" "$(nproc)"
fi
check "of all" is "$(line threads | sed 's/.* of \([0-9]*\).*/\1/')" "$(getconf _NPROCESSORS_ONLN)"
check "the CPU's name" is "$(line cpu)" \
    "$(sed -n 's/^model name[\t ]*: *//p' /proc/cpuinfo | sed -n 1p)"
wanted=c
flags=$(sed -n '/^flags/ { p; q }' /proc/cpuinfo)
has_flags() { for flag; do [[ "$flags " == *" $flag "* ]] || return; done; }
has_flags avx2 fma bmi2 && wanted="$wanted, avx2"
has_flags avx2 fma bmi2 avx512f avx512bw avx512dq avx512vl && wanted="$wanted, avx512"
best=${wanted##*, }
# The kernel may refuse tiles to a process.
has_flags amx_tile amx_bf16 && [[ $(line isa) == *amx* ]] && wanted="$wanted, amx_bf16"
check "instruction sets" is "$(line isa)" "$wanted"
check "a run takes the best" is "$(line 'a run' | cut -d, -f2)" " $best"
check "the compiler" grep -qE '^compiler +/.*: .*[0-9]\.[0-9]' "$work/out"
check "a line fits a terminal" awk 'length > 120 { exit 1 }' "$work/out"

devices --json
if command -v python3 >/dev/null; then
    check "--json is JSON" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$work/out"
fi
check "memory" is "$(field memory_bytes)" \
    "$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024))"
check "online" is "$(field online_threads)" "$(getconf _NPROCESSORS_ONLN)"
check "isas" is "$(field isas)" "[\"${wanted//, /\", \"}\"]"
check "PG_ISA is not set" is "$(field PG_ISA)" null

# ---- what is set --------------------------------------------------------------------------------
PG_ISA=c PG_THREADS=3 PG_MODE=eager devices
check "a run as it is set" is "$(line 'a run')" \
    "cpu, c, 3 threads, eager mode; set: PG_ISA=c PG_THREADS=3 PG_MODE=eager"
check "what there is stays" is "$(line isa)" "$wanted"
PG_ISA=nonsense devices
check "a wrong PG_ISA: status" is $? 1
check "a wrong PG_ISA" grep -q '^picograd: PG_ISA=nonsense is not known' "$work/err"
PG_CC=/nonexistent devices
check "no compiler" is "$(line compiler)" "none: everything runs eagerly"
printf '#!/bin/sh\nexec cat /dev/zero\n' >"$work/zero" && chmod +x "$work/zero"
PG_CC=$work/zero devices
check "a compiler without a version" is "$(line compiler)" "$work/zero: says no version"

# ---- a GPU's driver -----------------------------------------------------------------------------
read -r cc _ <"$build/flags"
"$cc" -std=gnu11 -Isrc -shared -fPIC tests/runtime/driver.c -o "$work/libcuda.so.1"
export LD_LIBRARY_PATH=$work
export DRIVER_DEVICES=2
PG_NVRTC=/nonexistent devices
check "GPUs are named" is "$(line cuda)" \
    '0: Stand-in "7", 7.0 GiB, compute capability 9.0
1: Stand-in "8", 8.0 GiB, compute capability 10.0'
check "a compiler for them is missed" grep -qF 'PG_NVRTC: cannot load /nonexistent' "$work/out"
check "a run is on the CPU" is "$(line 'a run' | cut -d, -f1)" cpu
"$cc" -std=gnu11 -shared -fPIC tests/runtime/compiler.c -o "$work/libnvrtc.so"
PG_NVRTC=$work/libnvrtc.so PG_DEVICE=cuda devices
check "a run is on the GPU" is "$(line 'a run' | cut -d, -f1)" cuda:0
check "nothing is missed" is "$(grep -c NVRTC "$work/out")" 0
PG_NVRTC=/nonexistent PG_DEVICE=cuda devices
check "a run on a GPU without a compiler: status" is $? 1
check "a run on a GPU without a compiler" grep -qF 'PG_DEVICE: PG_NVRTC: cannot load' "$work/err"
devices --json
check "GPUs in JSON" is "$(field gpus)" '[{"name": "Stand-in \"7\"", "memory_bytes": 7516192768, '\
'"compute_capability": "9.0"}, {"name": "Stand-in \"8\"", "memory_bytes": 8589934592, '\
'"compute_capability": "10.0"}]'
check "the driver's version" is "$(field cuda_driver)" 12040
DRIVER_INIT=100 devices
check "a driver without a GPU" is "$(line cuda)" \
    "no NVIDIA GPU: CUDA_ERROR_NO_DEVICE: what the driver says"
DRIVER_INIT=999 devices
check "a driver that refuses" is "$(line cuda)" "NVIDIA's driver does not start: error 999"
DRIVER_DEVICES=0 devices
check "a driver without devices" is "$(line cuda)" "the NVIDIA driver has no device"
echo 'int cuInit(unsigned flags) { return (int)flags; }' |
    "$cc" -shared -fPIC -o "$work/libcuda.so.1" -x c -
devices
check "a library that is no driver" is "$(line cuda)" "libcuda.so.1 has no cuGetErrorName"
unset LD_LIBRARY_PATH
if ldconfig -p 2>/dev/null | grep -q libcuda.so.1; then
    skip no_driver "this machine has a driver"
else
    devices
    check "no driver" is "$(line cuda)" "no NVIDIA driver: libcuda.so.1 is not there"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
