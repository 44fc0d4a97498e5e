#!/bin/bash
# gpu_check.sh [MODEL.gguf] - everything that needs an NVIDIA GPU, the most important first: what
# the wrappers of the prelude do, the op tests, a llama, speed beside PyTorch where that is there.
# In: a GPU, its driver, NVRTC, make, a C compiler; no network, and none of the optional libraries:
# prompts are token ids, which need no tokenizer.
# Out: BUILD/gpu-check.txt.
# Nothing stops it; each step has a limit, all of them 10 minutes. Status: 0 all is well, 1
# something failed, 2 there is no GPU.
#   PG_DEVICE=simt STEP_SECONDS=30 scripts/gpu_check.sh   rehearses it, in tiny sizes, on the CPU
# shellcheck disable=SC2046,SC2016  # names of tests have no blanks; bash -c expands its own text
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build} model=${1:-} device=${PG_DEVICE:-cuda}
unset PG_DEVICE PG_MODE PG_ISA PG_DUMP PG_PRECISION MAKEFLAGS MAKELEVEL
last=$((SECONDS + 590)) # when all must have ended
most=${STEP_SECONDS:-590}
failed=0

no_gpu() {
    echo "gpu-check: there is no NVIDIA GPU here: $1" >&2
    exit 2
}
[ "$device" = simt ] || [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] ||
    no_gpu "/dev/nvidiactl is not there"

mkdir -p "$build" && report=$build/gpu-check.txt && : >"$report" || exit 1
note() { tee -a "$report"; }

# step SECONDS NAME COMMAND...: runs it; its output, how long it took and how it ended.
step() {
    local limit=$1 name=$2 status start=$SECONDS
    shift 2
    [ "$most" -lt "$limit" ] && limit=$most
    [ $((last - SECONDS)) -lt "$limit" ] && limit=$((last - SECONDS))
    echo "== $name" | note
    if [ "$limit" -le 0 ]; then
        echo "-- left out: the ten minutes are over" | note
        failed=$((failed + 1))
        return 1
    fi
    timeout -k 5 "$limit" "$@" </dev/null 2>&1 | note
    status=${PIPESTATUS[0]}
    [ "$status" = 0 ] || failed=$((failed + 1))
    case $status in
    0) echo "-- well, $((SECONDS - start)) s" ;;
    124 | 137) echo "-- stopped after $limit s" ;;
    *) echo "-- FAILED with status $status, $((SECONDS - start)) s" ;;
    esac | note
    return "$status"
}

facts() {
    date -u '+%Y-%m-%d %H:%M UTC'
    git log -1 --format='commit %h %s' 2>/dev/null
    nvidia-smi --format=csv,noheader \
        --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit
    "${CC:-cc}" --version | head -1
    nproc | sed 's/$/ CPUs/'
}
tests() { printf "$build/tests/%s_test\n" "$@"; }
make_all() {
    make build $(tests runtime/{cuda,prelude} ops/{values,golden,gradient,attention,programs} \
        models/small) >"$build/gpu-check.log" 2>&1 && return
    tail -20 "$build/gpu-check.log"
    return 1
}
# run_tests SECONDS NAME...: each on the GPU, by the runner of make test.
run_tests() {
    local seconds=$1
    shift
    PG_TEST_SECONDS=$seconds scripts/test.sh "$build" $(tests "$@" | sed "s/^/$device:/")
}
# The same tokens as on the CPU, from the likeliest at each step.
llama() {
    local of=$1 mode=$2 wanted got tokens=24
    [ "$device" = simt ] && tokens=2
    local how=(-m "$of" --prompt-ids '1 72 101 108 31 44 200' -n "$tokens" --temp 0 --ids)
    wanted=$("$build/picograd" generate "${how[@]}" --device cpu) || return
    got=$("$build/picograd" generate "${how[@]}" --device "$device" --mode "$mode") || return
    echo "$got"
    [ "$got" = "$wanted" ] || echo "the CPU's: $wanted"
    [ "$got" = "$wanted" ]
}
# speed kernels|models: beside PyTorch, where that is there.
speed() {
    local how=(--picograd "$build/picograd" --device "$device" --part "$1")
    [ "$1" = models ] && [ "$model" ] && how+=(-m "$model")
    [ "$device" = simt ] && how+=(--rehearse)
    python3 bench/gpu.py "${how[@]}"
}
export -f tests run_tests llama make_all facts speed
export build device model

step 20 "the machine" bash -c facts
if step 240 "build" bash -c make_all; then
    step 10 "devices" "$build/picograd" devices
    step 60 "driver, wrappers of the prelude" bash -c 'run_tests 30 runtime/cuda runtime/prelude'
    step 90 "ops: values, attention, gradients" \
        bash -c 'run_tests 60 ops/values ops/attention ops/gradient'
    step 40 "llama of random weights in blocks, graph" bash -c 'llama random graph'
    step 40 "llama of random weights in bf16, graph" bash -c 'llama random:tiny graph'
    [ -z "$model" ] || step 60 "$model, graph" bash -c 'llama "$model" graph'
    step 150 "speed: kernels" bash -c 'speed kernels'
    step 150 "speed: a model of a billion weights, and what a step costs" bash -c 'speed models'
    step 60 "llama of random weights in blocks, eager" bash -c 'llama random eager'
    step 120 "ops: beside PyTorch's values" bash -c 'run_tests 110 ops/golden'
    step 90 "ops: random programs; small models" bash -c 'run_tests 80 ops/programs models/small'
fi
echo "gpu-check: $failed of the steps failed; the report is $report" | note
[ "$failed" = 0 ]
