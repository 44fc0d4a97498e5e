#!/bin/bash
# convert_test.sh - models in other types: what is written, what is refused.
# In: $PG_BUILD/picograd; the small models; the SmolLM2 file where it is in the user's cache.
# Out: a line for each failure, the skips with their reason, the counts.
set -u
. "$(dirname "$0")/check.sh"

files() { find "$work" -path "$PG_CACHE" -prune -o -name '*.gguf*' -printf '%p %s %T@\n' | sort; }
# refuses STATUS PART ARGUMENT...: that status, one line that has PART, and nothing was written.
refuses() {
    local wanted=$1 part=$2 before after
    shift 2
    before=$(files)
    try "$@"
    after=$(files)
    if [ $status != "$wanted" ]; then fail refuses "$* ends with $status, not $wanted"
    elif [ "$(wc -l <"$work/err")" != 1 ]; then fail refuses "$* does not print one line"
    elif ! grep -qF -- "$part" "$work/err"; then fail refuses "$*: the line lacks: $part"
    elif [ "$before" != "$after" ]; then fail refuses "$*: something was written"
    else passed=$((passed + 1)); fi
}
says() { grep -qF -- "$1" "$work/err"; }
size() { stat -Lc %s "$1"; }
loss() { "$picograd" perplexity -m "$1" -f tests/golden/text.txt --ctx 48 2>"$work/err"; }
near() { awk -v a="$1" -v b="$2" -v by="$3" 'BEGIN { exit !(a - b <= by && b - a <= by) }'; }
types() { "$picograd" inspect "$1" | awk '$2 ~ /^(B?F|I?Q)[0-9]/ { print $2 }' | sort -u | xargs; }

cache=${PG_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/picograd}
model=$(find "$cache/models/" -name 'SmolLM2-135M-Instruct.Q4_1.gguf' 2>/dev/null)
"$picograd" tokenize -m "$model" -p . >/dev/null 2>&1 || model=  # a build without PCRE2
export PG_CACHE=$work/cache
mkdir -m 700 "$PG_CACHE"
small=tests/models/small
if ! "$picograd" tokenize -m $small/llama -p . >/dev/null 2>&1; then
    echo "this build reads no folders, or has no PCRE2"
    exit 77
fi

# ---- what is refused ----------------------------------------------------------------------------
refuses 2 "from what to what?" convert
refuses 2 "from what to what?" convert $small/llama
refuses 2 "what is 'more' for?" convert $small/llama "$work/x.gguf" more
refuses 2 "which type?" convert $small/llama "$work/x.gguf"
refuses 2 "no type q4; there are f32 f16 q4_0" convert $small/llama "$work/x.gguf" --type q4
refuses 2 "no type iq2_xs" convert $small/llama "$work/x.gguf" --type iq2_xs
refuses 2 "there is no file" convert random "$work/x.gguf" --type f16
refuses 1 "nonsense" convert nonsense "$work/x.gguf" --type f16
refuses 1 "cannot write /nonexistent/x.gguf" convert $small/llama /nonexistent/x.gguf --type f16
refuses 1 "not a regular file" convert $small/llama /dev/null --type f16 --force

# ---- folders ------------------------------------------------------------------------------------
# Of the llamas the rows of queries and keys change their order; what they compute does not.
for name in llama llama-headdim llama-llama3 llama-yarn mistral qwen2 sharded; do
    try convert $small/$name "$work/$name.gguf" --type f32
    check "$name: status" is $status 0
    check "$name: the same loss" near "$(loss $small/$name)" "$(loss "$work/$name.gguf")" 0.00001
done
refuses 1 "is there already" convert $small/llama "$work/llama.gguf" --type f16
refuses 1 "what is to be read" convert "$work/llama.gguf" "$work/llama.gguf" --type f16 --force
try convert "$work/llama.gguf" "$work/again.gguf" --type f32
check "nothing to do: the same bytes" cmp "$work/llama.gguf" "$work/again.gguf"
try convert $small/llama "$work/again.gguf" --type f16 --force
check "--force" is "$(types "$work/again.gguf")" "F16 F32"

# Rows of 32 values are too short for the types of 256, those of 48 for all but f16.
for row in "q8_0 F16 F32 Q8_0" "q5_1 F16 F32 Q5_1 Q8_0" "q4_k F16 F32 Q5_0 Q8_0" \
    "q6_k F16 F32 Q8_0" "q2_k F16 F32 Q4_0 Q8_0" "iq4_xs F16 F32 IQ4_NL Q8_0" "bf16 BF16 F32"; do
    type=${row%% *}
    try convert $small/llama "$work/$type.gguf" --type "$type"
    check "$type: status" is $status 0
    check "$type: types" is "$(types "$work/$type.gguf")" "${row#* }"
    check "$type: loss" near "$(loss $small/llama)" "$(loss "$work/$type.gguf")" 0.5
done
check "what does not fit is said" is "$("$picograd" convert $small/llama "$work/said.gguf" \
    --type q4_k 2>&1 | grep -c 'stored as .* not Q4_K: the rows are no multiples of 256')" 2
refuses 1 "give --force" convert $small/llama "$work/said.gguf" --type q4_k
refuses 1 "--requantize to do it" convert "$work/q4_k.gguf" "$work/x.gguf" --type q4_0
try convert "$work/q4_k.gguf" "$work/x.gguf" --type q4_0 --requantize
check "--requantize" is "$(types "$work/x.gguf")" "F16 F32 Q4_0 Q8_0"
try convert "$work/q4_k.gguf" "$work/plain.gguf" --type f32
check "to f32 at any time" is $status 0
check "f32 of it is the same model" near "$(loss "$work/q4_k.gguf")" "$(loss "$work/plain.gguf")" \
    0.00001
check "nothing is left beside" is "$(find "$work" -name '*.tmp')" ""

# ---- a file system without room -----------------------------------------------------------------
if (ulimit -f 20; "$picograd" convert $small/mistral "$work/full.gguf" --type f32) 2>"$work/err"
then fail "no room" "it says that it wrote the file"
else check "no room" says "cannot write"; fi
check "no room: nothing is left" is "$(find "$work" -name 'full*')" ""

# ---- the real model -----------------------------------------------------------------------------
if [ -z "$model" ]; then
    skipped=1
    echo "skip: real_model: smollm2 is not in the cache; picograd models pull smollm2"
else
    try convert "$model" "$work/same.gguf" --type q4_1
    check "the same type: size" is "$(size "$work/same.gguf")" "$(size "$model")"
    check "the same type: loss" is "$(loss "$work/same.gguf")" "$(loss "$model")"
    try convert "$model" "$work/f32.gguf" --type f32
    check "f32: size" is "$(size "$work/f32.gguf")" 539845696
    check "f32: loss" near "$(loss "$work/f32.gguf")" "$(loss "$model")" 0.0001
    try convert "$work/f32.gguf" "$work/back.gguf" --type q8_0 -t 2
    check "q8_0: size" is "$(size "$work/back.gguf")" 144811072
    check "q8_0: loss" near "$(loss "$work/back.gguf")" "$(loss "$model")" 0.03
    "$picograd" convert "$work/f32.gguf" "$work/stopped.gguf" --type q5_1 2>"$work/err" &
    sleep 0.3
    kill -INT $!
    wait $!
    status=$?
    check "Ctrl-C: status $status" test $status = 130 -o -e "$work/stopped.gguf"
    check "Ctrl-C: nothing is left" is "$(find "$work" -name '*.tmp')" ""
fi

echo "$passed passed, $failed failed, $skipped skipped"
exit $((failed != 0))
