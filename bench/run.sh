#!/bin/bash
# run.sh [-t THREADS] [-r ROUNDS] [-o FILE.json] [ROW...] - picograd beside its peers.
# In: build/picograd, the SmolLM2 file, the peers that peers.sh can install.
# Out: a table with ratios on standard output, the same as JSON in FILE (build/bench.json).
# Every round runs each side once, one after the other, each in its own process: what disturbs the
# machine for a while disturbs all sides. The table has the medians of the rounds. Eager mode, which
# no peer has, runs in the first one.
set -u
cd "$(dirname "$0")/.." || exit 1
threads=$(nproc) rounds=5 output=build/bench.json
while getopts t:r:o: option; do
    case $option in
    t) threads=$OPTARG ;;
    r) rounds=$OPTARG ;;
    o) output=$OPTARG ;;
    *) echo "usage: bench/run.sh [-t THREADS] [-r ROUNDS] [-o FILE.json] [ROW...]" >&2 && exit 2 ;;
    esac
done
shift $((OPTIND - 1))
rows=("$@")
[ $# = 0 ] && rows=(matmul:1024 matmul:2048 prefill:512 decode:128)

cache=${PG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/picograd}
picograd=build/picograd
python=$cache/peers/venv/bin/python
blocks=$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
floats=$cache/bench/smollm2-135m-instruct-f32.gguf
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
note() { echo "note: $*" >&2; }

prepare() {
    bench/peers.sh
    [ -x "$picograd" ] || note "no picograd side: $picograd is not there; run make"
    [ -x "$python" ] || note "no peers' side: see above"
    [[ "${rows[*]}" =~ prefill|decode ]] || return
    [ -e "$blocks" ] || [ ! -x "$picograd" ] || "$picograd" models pull smollm2 >&2
    [ -e "$blocks" ] || note "no model rows: $blocks is not there; run picograd models pull smollm2"
    [ -e "$blocks" ] && [ ! -e "$floats" ] || return
    (umask 077 && mkdir -p "$cache/bench")
    "$python" bench/convert_f32.py "$blocks" "$floats" 2>"$work/error" ||
        note "no F32 rows: the model could not be unpacked: $(tail -1 "$work/error")"
}

# side WHO MODEL COMMAND...: runs it; its JSON line goes to the table. One that fails is left out.
side() {
    local who=$1 model=$2 key
    shift 2
    key="$who $model ${*: -1}"
    grep -qxF "$key" "$work/failed" 2>/dev/null && return
    if timeout 600 "$@" >"$work/line" 2>"$work/error" && [ -s "$work/line" ]; then
        printf '%s\t%s\t%s\n' "$who" "$model" "$(tail -1 "$work/line")" >>"$work/lines"
    else
        echo "$key" >>"$work/failed"
        note "$who has no ${*: -1} $model: $(tail -1 "$work/error")"
    fi
}

# own WHO MODEL ROW OPTION...
own() {
    local who=$1 model=$2 row=$3
    shift 3
    [ -x "$picograd" ] || return
    side "$who" "$model" "$picograd" bench --json - -r 1 -t "$threads" "$@" "$row"
}

# peer WHO MODEL ROW OPTION...
peer() {
    local who=$1 model=$2 row=$3
    shift 3
    [ -e "$cache/peers/venv/installed-$who" ] || return
    side "$who" "$model" "$python" bench/peers.py "$who" -t "$threads" --samples 1 "$@" "$row"
}

measure() {
    local row=$1 model file
    case $row in
    prefill:* | decode:*)
        for model in Q4_1 F32; do
            file=$blocks
            [ $model = F32 ] && file=$floats
            [ -e "$file" ] || continue
            own picograd $model "$row" -m "$file"
            [[ $row == decode:* ]] && [ "$round" = 1 ] && own eager $model "$row" -m "$file" --mode eager
            peer llama $model "$row" -m "$file"
        done
        ;;
    *)
        own picograd - "$row"
        peer openblas - "$row"
        peer torch - "$row"
        ;;
    esac
}

prepare
read -r load _ </proc/loadavg
for ((round = 1; round <= rounds; round++)); do
    for row in "${rows[@]}"; do
        echo "round $round of $rounds: $row" >&2
        measure "$row"
    done
done
mkdir -p "$(dirname "$output")"
python3 bench/table.py "$work/lines" "$output" "$threads" "$load"
