#!/bin/bash
# cli_test.sh - the command as a user meets it: exit status, one-line errors, what it prints.
# In: $PG_BUILD/picograd; the SmolLM2 file where it is in the user's cache, else its tests are
# skipped. Everything is written in a folder of its own, the cache of kernels too.
# Out: a line for each failure, the skips with their reason, the counts.
set -u
. "$(dirname "$0")/check.sh"

# refuses STATUS PART ARGUMENT...: that status, nothing on standard output, one line that has PART.
refuses() {
    local wanted=$1 part=$2
    shift 2
    try "$@"
    if [ $status != "$wanted" ]; then fail "refuses" "$* ends with $status, not $wanted"
    elif [ -s "$work/out" ]; then fail "refuses" "$* prints on standard output"
    elif [ "$(wc -l <"$work/err")" != 1 ]; then fail "refuses" "$* does not print one line"
    elif ! grep -qF -- "$part" "$work/err"; then fail "refuses" "$*: the line lacks: $part"
    else passed=$((passed + 1)); fi
}
has() { grep -qF -- "$1" "$work/out"; }
says() { grep -qF -- "$1" "$work/err"; }
prints() { [ "$(cat "$work/out")" = "$1" ]; }

cache=${PG_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/picograd}
model=$(find "$cache/models/" -name 'SmolLM2-135M-Instruct.Q4_1.gguf' 2>/dev/null)
"$picograd" tokenize -m "$model" -p . >/dev/null 2>&1 || model=  # a build without PCRE2
export PG_CACHE=$work/cache
mkdir -m 700 "$PG_CACHE" "$PG_CACHE/models"
[ -n "$model" ] && ln -s "$(realpath "$model")" "$PG_CACHE/models/"

# ---- help ---------------------------------------------------------------------------------------
try
check "no command: status" is $status 2
check "no command: usage" says "usage: picograd COMMAND"
for help in --help -h help; do
    try $help
    check "$help" has "picograd generate -m smollm2"
done
try --version
check version grep -qE '^picograd [0-9]+\.[0-9]+\.[0-9]+$' "$work/out"
for command in generate tokenize perplexity models inspect bench roofline explain cache convert; do
    try $command --help
    check "$command --help: status" is $status 0
    check "$command --help" has "usage: picograd $command"
    check "$command --help fits a terminal" awk 'length > 100 { exit 1 }' "$work/out"
done

# ---- wrong command lines ------------------------------------------------------------------------
refuses 2 "Did you mean generate?" genrate
refuses 2 "no command nonsense" nonsense
refuses 2 "did you mean --temp?" generate --tmp 1
refuses 2 "no option -q" generate -q
refuses 2 "-n needs a value" generate -n
refuses 2 "--ids takes no value" generate --ids=1
refuses 2 "--temp takes a number from 0 to 100" generate --temp warm
refuses 2 "--temp takes a number" generate --temp=-1
refuses 2 "--temp takes a number" generate --temp nan
refuses 2 "-n takes an integer from -1 to 16777216, not 1.5" generate -n 1.5
refuses 2 "--predict takes an integer" generate --predict=-5
refuses 2 "--seed takes an integer from -1 to 9000000000000000" generate --seed 1e16
refuses 2 "are for --chat" generate -m random -p some --system some
refuses 1 "random weights know no conversation" generate -m random -p some --chat
refuses 2 "--mirostat takes an integer from 0 to 2" generate --mirostat 3
refuses 2 "mirostat 1:" generate -m random -p some --mirostat 1
refuses 2 "vocabulary has 49152 tokens" generate -m random -p some --logit-bias 49152+1
for bias in 1 +1 1*2 1+ 1+x 1+inf 1-nan 1+0x2 1+1e9 9999999999+1; do
    refuses 2 "give a token's id and what to add" generate -m random -p some -l $bias
done
refuses 2 "no option -m=random" generate -m=random
refuses 2 "-c takes an integer from 1" generate -c 0
refuses 2 "not valid UTF-8" generate -m random -p some --stop $'\x9f'
refuses 2 "there is no file" inspect random
refuses 2 "--ctx-size takes an integer" generate --ctx-size 99999999999999999999
refuses 2 "what is 'more' for?" generate -p some more
refuses 2 "which model?" generate -p some
refuses 2 "which text?" generate -m random
refuses 2 "one is enough" generate -m random -p some -f file
for other in '-p some' '-f file' --chat '--parallel 2'; do
    # shellcheck disable=SC2086  # an option and its value
    refuses 2 "--prompt-ids is the whole prompt" generate -m random --prompt-ids 1 $other
done
refuses 2 "which model?" generate --prompt-ids 1
refuses 2 "graph or eager" generate -m random -p some --mode fast
refuses 2 "cpu, cuda, cuda:N or simt" generate -m random -p some --device cuda:x
PG_LIBCUDA=/nonexistent refuses 1 "no NVIDIA driver: /nonexistent is not there. Hint: install" \
    generate -m random -p some --device cuda
PG_DEVICE=gpu refuses 1 "PG_DEVICE: there is no device gpu" generate -m random -p some
refuses 2 "fp32 or tf32" generate -m random -p some --precision fp8
refuses 2 "which text?" perplexity -m random
refuses 2 "which one?" models pull
refuses 2 "what is 'push' for?" models push
refuses 2 "which model?" inspect
refuses 2 "cache: what?" cache
refuses 2 "cache: burn?" cache burn
refuses 2 "give sizes from 1" bench matmul
for row in matmul: matmul:0 matmul:-1 matmul:1x matmul:x1 matmul:1x2 matmul:1x2x3x4 matmul:1e3 \
    matmul:99999999999999999999 matmul:1x2x3,4 conv2d:4 attention:9x1x64; do
    refuses 2 "give sizes from 1 to 1048576 as ${row%%:*}:" bench $row
done
refuses 2 "more queries than positions" bench attention:9x4x64x3
refuses 2 "tensors take 4398 GB" bench gelu:1048576x524288
refuses 2 "only linear takes a type" bench matmul:32:q4_1
refuses 2 "no type q9_9" bench linear:32:q9_9
refuses 2 "in multiples of 32" bench linear:1x33x32:q4_1
refuses 2 "did you mean gelu?" bench matmul:16 gelo:16
refuses 2 "for a model, give -m MODEL and no row" roofline decode:8
refuses 2 "ends in .png or .svg" roofline -o picture.pdf
refuses 2 "eager mode has no kernels" roofline --mode eager
refuses 2 "no row cooking:9" bench cooking:9
refuses 2 "is of a model" bench decode:8
refuses 2 "bench: what?" bench
refuses 2 "md, csv or json" bench -m random -o xml
refuses 2 "did you mean render?" explain matmul:16 --stage rendr
refuses 2 "not both" explain matmul:16 -m random
refuses 2 "no GPU h10; did you mean h100?" explain softmax:16 --device simt --gpu h10
refuses 2 "there are a100, h100, h200, rtx3090, rtx4090" explain softmax:16 --device simt --gpu tpu
refuses 2 "goes with --device simt" explain softmax:16 --gpu h100
refuses 2 "goes with --device simt" explain softmax:16 --stage profile

# ---- what the outside world refuses -------------------------------------------------------------
touch "$work/empty.gguf"
printf 'GGUX\3\0\0\0' >"$work/magic.gguf"
printf 'GGUF\3\0\0\0\377\377\377\377\377\377\377\177\1\0\0\0\0\0\0\0' >"$work/count.gguf"
printf 'GGUF\3\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\5\0\0' >"$work/short.gguf"
refuses 1 "No such file" generate -m "$work/none.gguf" -p some
refuses 1 "it is empty" generate -m "$work/empty.gguf" -p some
refuses 1 "a folder without a config.json is no model" generate -m "$work" -p some
refuses 1 "not a GGUF file" generate -m "$work/magic.gguf" -p some
refuses 1 "count.gguf" inspect "$work/count.gguf"
refuses 1 "short.gguf" tokenize -m "$work/short.gguf" -p some
refuses 1 "No such file" generate -m random -f "$work/none.txt"
refuses 1 "more than 64 MB of text" generate -m random -f /dev/zero
refuses 2 "which model?" generate -p -
refuses 1 "Is a directory" perplexity -m random -f "$work"
refuses 1 "no model is known as nonsense" models pull nonsense
refuses 1 "cannot write --metrics" generate -m random -p some --metrics "$work/none/metrics.json"
refuses 1 "cannot write --metrics" generate -m random -p some --metrics "$work/"
refuses 1 "takes a file, not '-'" generate -m random -p some --metrics -
mkfifo "$work/pipe"
refuses 1 "not a regular file" generate -m "$work/pipe" -p some
PG_ISA=nonsense refuses 1 "picograd: PG_ISA=nonsense is not known" generate -m random -p some
# 0.1 MB of disk, where a name space of our own may mount one.
small_disk() { unshare -rm sh -c 'mount -t tmpfs -o size=100k,mode=700 small "$0" && exec "$@"' "$@"; }
mkdir "$work/small"
if small_disk "$work/small" true 2>/dev/null; then
    PG_CACHE=$work/small small_disk "$work/small" "$picograd" models pull smollm2 2>"$work/err"
    check "pull onto a full disk: status" is $? 1
    check "pull onto a full disk: one line" is "$(grep -c 'takes 191 MB' "$work/err")" \
        "$(wc -l <"$work/err")"
else
    skip full_disk "no tmpfs can be mounted here"
fi
PG_CACHE=$work/empty.gguf/cache refuses 1 "cannot make the folder" cache info
"$picograd" --help >/dev/full 2>"$work/err"
check "full disk: status" is $? 1
check "full disk" says "cannot write standard output"

# ---- kernels and their cache --------------------------------------------------------------------
try cache info
check "cache info of none" has "0 kernels"
for size in 16 24; do
    for row in softmax rmsnorm; do
        "$picograd" explain $row:$size --stage time >"$work/$row-$size" 2>&1 &
    done
    "$picograd" explain softmax:$size --stage time >"$work/twin-$size" 2>&1 &
done
together=0
for job in $(jobs -p); do wait "$job" || together=1; done
check "six processes fill one cache" is $together 0
check "the cache holds no leftovers" is "$(find "$PG_CACHE" -name '*.tmp*' | wc -l)" 0
try cache info
check "cache info" grep -qE 'kernels: [1-9][0-9]* kernels, [0-9.]+ MB$' "$work/out"
try cache clear
check "cache clear" grep -qE '^removed [1-9][0-9]* kernels$' "$work/out"
PG_CACHE=$work/empty.gguf/cache try explain softmax:16 --stage time
check "no folder for the cache: status" is $status 0
check "no folder for the cache: one line" is "$(wc -l <"$work/err")" 1
mkdir -m 777 "$work/open" && chmod 777 "$work/open"
PG_CACHE=$work/open try explain softmax:16 --stage time
check "a cache that others can write in is not used" says "others could write"
check "nothing is written into it" is "$(find "$work/open" -type f | wc -l)" 0
PG_CC=/nonexistent try explain softmax:16 --stage time
check "no compiler, asked for graph: status" is $status 1
check "no compiler, asked for graph" says "PG_CC"

# ---- explain and bench --------------------------------------------------------------------------
try explain softmax:16
check "explain: status" is $status 0
wanted=$(sed -n 's/^stages: \(.*\);.*/\1/p' "$work/out")
check "explain: all stages, in order" is "$wanted" \
    "$(sed -n 's/^#### \([a-z]*\):.*/\1/p' "$work/out" | xargs)"
check "explain: the graph" has "exp2 f32 (16, 16)"
check "explain: C" has "const PgArgs *args"
check "explain: the count" grep -qx "1 kernel" "$work/out"
try explain rmsnorm:16 --stage render
check "explain --stage" is "$(grep -c '^####' "$work/out")" 1
try explain matmul:16 --kernel 7 --stage schedule
check "explain --kernel" has "there is no kernel 7"
try explain softmax:128 --device simt --gpu a100
check "explain on simt: status" is $status 0
wanted=$(sed -n 's/^stages: \(.*\);.*/\1/p' "$work/out")
check "explain on simt: all stages, in order" is "$wanted" \
    "$(sed -n 's/^#### \([a-z]*\):.*/\1/p' "$work/out" | xargs)"
check "explain on simt: CUDA C" has "KERNEL("
check "explain on simt: which GPU" grep -q "^kernel 0: .* on A100 SXM 80 GB (sm_80)$" "$work/out"
check "explain on simt: rows are read whole" grep -q \
    "^  global loads  .* 4.0 of 4 sectors of a line$" "$work/out"
check "explain on simt: the verdict" grep -qE \
    "^  latency bound  +memory at [0-9]+ % and compute at" "$work/out"
PG_NVRTC=/nonexistent try explain gelu:16 --device simt --stage profile
check "explain on simt, no NVRTC: status" is $status 0
check "explain on simt, no NVRTC: why" says "registers are not known: PG_NVRTC: cannot load"
check "explain on simt, no NVRTC: a GPU" has "on H100 SXM5 80 GB (sm_90a)"
check "explain on simt, no NVRTC: registers" grep -q "^  registers  *not known" "$work/out"
check "explain on simt fits a terminal" awk 'length > 100 { exit 1 }' "$work/out"
try bench --list
check "bench --list" has "matmul:MxKxN"
try bench --list --json -
check "bench --list --json: what make bench runs" has \
    '{"row": "linear:1x576x1536", "unit": "GFLOP/s", "model": false, "less": false, "few": true}'
try bench matmul:16 rmsnorm:16 --json -
check "bench: an object a line" is "$(wc -l <"$work/out")" 2
for field in '"row": "matmul:16"' '"median": ' '"unit": "GFLOP/s"' '"spread": ' '"runs": [' \
    '"operations": 8192, "bytes": 3072, ' '"step_seconds": ' '"operations": 0, "bytes": 2112, ' \
    '"compile_ms": ' '"peak_rss_bytes": ' '"precision": "fp32"' \
    '"cpu": "' '"threads": ' '"mode": "graph"' '"isa": "'; do
    check "bench --json" has "$field"
done
try bench matmul:16 -r 2 --json -
check "bench -r 2: two runs" grep -qE '"runs": \[[0-9.]+, [0-9.]+\]' "$work/out"
refuses 2 "-r takes an integer from 1 to 100" bench -r 0 matmul:16
for row in matmul:8x16x4 linear:2x32x8 linear:2x32x8:q8_0 linear:2x32x8:bf16 softmax:4x8 layernorm:4x8 \
    gelu:4x8 swiglu:4x8 chain:4x8 conv2d:1x2x5x5x3x3x2 attention:2x3x4x5; do
    echo $row >>"$work/rows"
done
mapfile -t rows <"$work/rows"
try bench "${rows[@]}" -r 1 --json -
check "bench: every kind of row" is "$(sed 's/{"row": "\([^"]*\)".*/\1/' "$work/out")" \
    "$(cat "$work/rows")"
for field in '"operations": 1024, ' '"operations": 972, ' '"operations": 384, '; do
    check "bench: operations" has "$field"
done
mkdir "$work/temporary"
TMPDIR=$work/temporary try bench cold:4 warm:4 memory:4 -m random -r 2 --json -
check "bench: compiling, memory" is "$(grep -c '"runs": \[[0-9.]*, [0-9.]*\]' "$work/out")" 3
check "bench: a cold cache is gone afterwards" is "$(ls "$work/temporary")" ""
try bench matmul:16 --mode eager
check "bench --mode eager" has "eager"
try bench matmul:16 --precision tf32 --json -
check "bench --precision" has '"precision": "tf32"'
try roofline matmul:16 softmax:16 -r 1 --json -
check "roofline: status" is $status 0
for field in '"peak": ' '"tile": ' '"levels": [{"name": ' '{"name": "memory", "bytes": null, "rate": ' \
    '"program": "matmul:16", "name": "' '"operations": 8192, "bytes": 3072, "share": ' \
    '"program": "softmax:16", "name": "'; do
    check "roofline --json" has "$field"
done
if command -v python3 >/dev/null; then
    check "roofline --json is JSON" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' \
        "$work/out"
fi
PATH=/nonexistent try roofline -o "$work/roofs.png"
check "roofline without gnuplot: status" is $status 0
check "roofline without gnuplot: the table" grep -qE '^ +memory +[0-9.]+ GB/s read; ridge at' \
    "$work/out"
check "roofline without gnuplot: a line" is "$(grep -c 'no picture: gnuplot' "$work/err")" 1
check "roofline without gnuplot: no picture" is "$(find "$work" -name 'roofs.png*')" ""
if command -v gnuplot >/dev/null; then
    try roofline matmul:16 softmax:16 attention:2x3x4x5 -r 1 -o "$work/it's.svg"
    check "roofline -o: status" is $status 0
    check "roofline -o: an svg with the row" grep -q 'matmul:16' "$work/it's.svg"
    check "roofline -o: no leftovers" is "$(find "$work" -name "it's.svg?*")" ""
    refuses_picture() {
        try roofline -o "$work/none/roofs.png"
        [ $status = 1 ] && says "No such file" && [ "$(wc -l <"$work/err")" = 1 ]
    }
    check "roofline -o into no folder" refuses_picture
else
    skip roofline_picture "gnuplot is not installed"
fi

# ---- generate, with random weights --------------------------------------------------------------
try generate -m random -p abc -c 8 --ids --temp 0
check "random weights: status" is $status 0
check "random weights: a line that says so" says "the words mean nothing"
check "-n -1 ends with the context" is "$(wc -lw <"$work/out" | xargs)" "1 5"
greedy=$(cat "$work/out")
try generate -m random -p abc -c 8 --ids --temp 0 -n 3
check "-n" is "$(cut -d' ' -f1-3 <<<"$greedy")" "$(cat "$work/out")"
try generate -m random -p abc -c 8 -n 1 --ids --temp 0 --mode eager
check "eager is as graph" is "${greedy%% *}" "$(cat "$work/out")"
refuses_after_note() {
    try generate -m random "$@"
    [ $status = 1 ] && [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" = 2 ]
}
check "the prompt is empty" refuses_after_note -p ""
check "the prompt is too long" refuses_after_note -p "123456789" -c 8
check "the prompt leaves no room" refuses_after_note -p "12345678" -c 8
try generate -m random --prompt-ids ' 97, 98 99' -c 8 --temp 0
check "a prompt of ids" prints "$greedy"
for ids in '' ' , ' 49152 '1 -1' 9999999999 '1 2 3 4 5 6 7 8'; do
    check "ids that are refused: '$ids'" refuses_after_note --prompt-ids "$ids" -c 8
done
check "an id outside the vocabulary" refuses_after_note --prompt-ids '7 49152' -c 8
check "says how large it is" says "no token 49152; the vocabulary has 49152"
for ids in '1 x' 1.5 0x7 99999999999999999999 1\;2; do
    try generate -m random --prompt-ids "$ids"
    check "no ids: $ids" is "$status $(wc -l <"$work/err")" "2 2"
    check "no ids: $ids: says what they are" says "takes ids with spaces or commas between them"
done
try generate -m random -p 1234567 -c 8 --ids
check "the prompt leaves room for one" is "$(wc -w <"$work/out")" 1
check "one token has no speed" grep -q 'generated$' "$work/err"
for seed in 7 7 8; do
    try generate -m random -p abc -c 8 --ids --seed $seed
    cp "$work/out" "$work/seed-$seed-$((count = ${count:-0} + 1))"
done
check "the same seed, the same text" cmp -s "$work/seed-7-1" "$work/seed-7-2"
check "another seed, another text" is "$(cmp -s "$work/seed-7-1" "$work/seed-8-3"; echo $?)" 1
try generate -m random:tiny --prompt-ids 1,2,255 -n 4 --temp 0
check "random:tiny: four ids" grep -qE '^([0-9]+ ){3}[0-9]+$' "$work/out"
try bench -m random:tiny -p 8 -n 0 -r 1
check "random:tiny: its row" has "| random 1M BF16"
try models
check "models lists random:1b" has "random:1b"
check "models fits a terminal" awk 'length > 100 { exit 1 }' "$work/out"
refuses 2 "there is no file" inspect random:1b
refuses 1 "random:2b" generate -m random:2b -p some
"$picograd" generate -m random -p abc -c 8 -n 2 >/dev/full 2>"$work/err"
check "full disk while generating: status" is $? 1
check "full disk while generating" says "cannot write standard output"
(ulimit -f 1 && PG_CACHE=$work/limited try generate -m random -p abc -c 8 -n 2 && exit $status)
check "a limit on files: status" is $? 1
check "a limit on files" says "File too large"
"$picograd" generate -m random -p abc -c 8 -n 2 >"$work/out" 2>&1
check "one log for both: the text has its own line" grep -q '^picograd: 3 prompt' "$work/out"
printf 'a short text' >"$work/short.txt"
try perplexity -m random -f "$work/short.txt" --ctx 16777216
check "perplexity: --ctx is more than there is" is $status 0
try generate -m random -p abc -c 8 -n 3 --metrics "$work/metrics.json" -t 1
for field in load_ms compile_ms ttft_ms itl_ms p50 p95 max prompt_tokens generated_tokens \
    prompt_tok_s decode_tok_s total_tok_s peak_rss_bytes weights_bytes kv_bytes energy_j \
    tokens_per_j mode device precision threads isa; do
    check "--metrics has $field" grep -qF "\"$field\": " "$work/metrics.json"
done
PG_ISA=c try generate -m random -p abc -c 8 -n 1 -t 1 --precision tf32 -v --metrics "$work/tf32.json"
check "tf32 without AMX: status" is $status 0
check "tf32 without AMX is fp32, and says so" says "tf32 is computed as fp32"
check "--metrics: what was asked for" grep -qF '"precision": "tf32"' "$work/tf32.json"
PG_PRECISION=fp16 try generate -m random -p abc -c 8 -n 1
check "PG_PRECISION=fp16" is $status 1
check "PG_PRECISION=fp16 says" says "it is fp32 or tf32"
check "--metrics: the device" grep -qF '"device": "cpu"' "$work/metrics.json"
number='\([0-9.]*\)'
sed -n "s/.*\"p50\": $number, \"p95\": $number, \"max\": $number}.*/\1 \2 \3/p" \
    "$work/metrics.json" >"$work/itl"
check "--metrics: percentiles rise" awk '{ exit !(0 < $1 && $1 <= $2 && $2 <= $3) }' "$work/itl"
check "--metrics counts tokens" grep -qF '"generated_tokens": 3' "$work/metrics.json"
joules=$(sed -n 's/.*"energy_j": \(.*\),/\1/p' "$work/metrics.json")
check "--metrics: tokens a joule" awk -v joules="$joules" '/tokens_per_j/ {
    exit !(joules == "null" ? $2 == "null," : ($2 * joules - 3) ^ 2 < 0.01) }' "$work/metrics.json"
if command -v python3 >/dev/null; then
    check "--metrics is JSON" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' \
        "$work/metrics.json"
fi
if command -v script >/dev/null; then
    script -qec "'$picograd' generate -m random -p abc -c 8 -n 3" /dev/null >"$work/out" 2>&1
    check "a terminal sees hints" has "compiling ..."
    check "and sees them go" is "$(grep -o $'\e7' "$work/out" | wc -l)" \
        "$(grep -o $'\e8' "$work/out" | wc -l)"
fi
PG_CC=/nonexistent try generate -m random -p a -c 8 -n 1
check "no compiler: status" is $status 0
check "no compiler: a line" says "runs eagerly"
PG_CC=/nonexistent try generate -m random -p a -c 8 -n 1 --mode graph
check "no compiler, asked for graph: fails" is $status 1
"$picograd" generate -m random -p abc >"$work/out" 2>"$work/err" </dev/null &
job=$!
for _ in $(seq 600); do [ "$(wc -c <"$work/out")" -gt 3 ] && break; sleep 0.1; done
kill -INT $job
wait $job
check "Ctrl-C: status" is $? 130
check "Ctrl-C: still says how fast" says "generated at"

# ---- with the real model ------------------------------------------------------------------------
if [ -z "$model" ]; then
    skip real_model "smollm2 is not in the cache; picograd models pull smollm2"
    echo "$passed passed, $failed failed, $skipped skipped"
    exit $((failed != 0))
fi

head -c 1000000 "$model" >"$work/cut.gguf"
refuses 1 "cut.gguf" generate -m "$work/cut.gguf" -p some
try models
check "models" has "smollm2"
try models pull smollm2
check "models pull of what is there" says "already here"
try inspect smollm2
check "inspect: tensors" has "tensors: 272"
check "inspect: metadata" grep -qE '^  llama.block_count +30$' "$work/out"
check "inspect: the chat template" grep -qE '^  chat template +chatml$' "$work/out"
check "inspect: ends" is "$(grep -c '^  ends a text ' "$work/out")" 2
check "inspect: totals" grep -qE '^  Q4_1 +210 ' "$work/out"

# Every ninth text; -p - so that any byte can be given.
mapfile -t texts <tests/io/golden/texts.txt
mapfile -t wanted <tests/io/golden/ids-smollm2.txt
for ((i = 0; i < ${#texts[@]}; i += 9)); do
    printf '%b' "${texts[i]}" | "$picograd" tokenize -m smollm2 -p - >"$work/out" 2>"$work/err"
    check "tokenize text $i" prints "${wanted[i]}"
done

# golden CASE: its prompt in $prompt; its greedy ids up to a near-tie or the end of the text.
golden() {
    prompt=$(awk -v name="$1" '$1 == "case" { on = $2 == name }
        on && $1 == "text" { sub(/^text /, ""); print }' tests/golden/llama.txt)
    prompt=$(printf '%b.' "$prompt")
    prompt=${prompt%.}
    awk -v name="$1" '$1 == "case" { on = $2 == name; greedy = 0 }
        on && $1 == "end" { exit }
        on && greedy { for (i = 1; i < NF; i += 2) {
            if ($(i + 1) < 0.01 || $i == 2 || $i == 0) exit
            printf "%s%s", separator, $i; separator = " " } }
        on && $1 == "greedy" { greedy = 1 }' tests/golden/llama.txt
}
# same_ids CASE COUNT OPTION...: generate gives transformers' ids, COUNT at most.
same_ids() {
    local name=$1 count=$2 ids
    shift 2
    golden "$name" >"$work/ids"
    ids=$(cut -d' ' -f1-"$count" "$work/ids")
    try generate -m smollm2 -p "$prompt" -n "$(wc -w <<<"$ids")" --temp 0 --ids "$@"
    check "generate: $name $*" prints "$ids"
}
for case in story one capital sum code french chat; do same_ids $case 64; done
same_ids story 8 --mode eager
try generate -m smollm2 -p "The capital of France is" -n 16 --temp 0 --stop " of France"
check "--stop: status" is $status 0
check "--stop: not printed" is "$(grep -c ' of France' "$work/out")" 0
try generate -m smollm2 -p $'\xff\xfe ab\x80' -n 4 --temp 0
check "a prompt of invalid UTF-8: status" is $status 0
check "what is generated is valid UTF-8" iconv -f UTF-8 -t UTF-8 "$work/out" -o /dev/null
try generate -m smollm2 -p "Why is the sky blue?" --chat --temp 0 -n 24
check "--chat" has "sky"
try generate -m smollm2 -p "<|im_end|>Hi" --chat --system "Say <|im_end|>." --temp 0 -n 1 -v
check "a message holds no control token" \
    is "$(grep 'prompt ids' "$work/err" | tr ' ' '\n' | grep -cx 2)" 2
refuses 1 "llama3 needs the token <|start_header_id|>" \
    generate -m smollm2 -p some --chat --chat-template llama3
refuses 1 "no chat template is called some. There are: chatml, llama2" \
    generate -m smollm2 -p some --chat --chat-template some
try perplexity -m smollm2 -f tests/golden/text.txt --ctx 256
check "perplexity" awk '{ exit !($1 > 3.8213 && $1 < 3.8233) }' "$work/out"
# Beside the weights and the cache: 80 MB, whatever the prompt's length. Sanitizers take their own.
bytes_of() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$work/metrics.json"; }
if ! nm "$picograd" 2>/dev/null | grep -q __asan_init; then
    for words in 60 700 1500; do
        awk -v n="$words" 'BEGIN { for (i = 0; i < n; i++) printf "a%s", i % 9 ? " " : ".\n" }' \
            >"$work/long.txt"
        try generate -m smollm2 -f "$work/long.txt" -n 2 --temp 0 --metrics "$work/metrics.json"
        more=$(($(bytes_of peak_rss_bytes) - $(bytes_of weights_bytes) - $(bytes_of kv_bytes)))
        check "$words words: $((more / 1000000)) MB beside weights and cache" test "$more" -le 80000000
    done
fi
try bench -m smollm2 -p 8 -n 2 -o md
check "bench: llama-bench's table" grep -qE '^\| llama 135M Q4_1 +\|.*\| +pp8 \|' "$work/out"
try bench -m smollm2 -p 8 -n 2 -o csv
check "bench: csv" is "$(wc -l <"$work/out")" 3
try roofline -m smollm2 -p 4 -r 1
check "roofline -m: status" is $status 0
check "roofline -m" grep -qE '^smollm2, 4 tokens$' "$work/out"
try explain -m smollm2 --stage time
check "explain -m: status" is $status 0
check "explain -m: no kernel without a name" is "$(grep -c null "$work/out")" 0
check "explain -m" grep -qE '^ +all ' "$work/out"

echo "$passed passed, $failed failed, $skipped skipped"
exit $((failed != 0))
