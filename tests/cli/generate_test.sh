#!/bin/bash
# generate_test.sh - picograd generate beyond one prompt: several at once, guessed tokens, kept
# states, full contexts.
set -u
picograd=$PG_BUILD/picograd
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
wrong() { echo "wrong: $*"; failed=1; }
metric() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p" "$work/metrics"; }
generate() { "$picograd" generate -m smollm2 --temp 0 --metrics "$work/metrics" "$@" 2>"$work/said"; }

"$picograd" tokenize -m smollm2 -p . >/dev/null 2>&1 || {
    echo "smollm2 is not in the cache: picograd models pull smollm2"
    exit 77
}

# Each line alone, and all in one step: the same ids.
printf 'The capital of France is\n\nOnce upon a time\nWater\n' >"$work/prompts"
grep . "$work/prompts" | while read -r line; do generate -p "$line" -n 8 --ids; done >"$work/alone"
generate -f "$work/prompts" --parallel 8 -n 8 --ids >"$work/together" || wrong "parallel: $(cat "$work/said")"
cmp -s "$work/alone" "$work/together" || wrong "several at once make other tokens than each alone"
[ "$(metric generated_tokens)" = 24 ] || wrong "$(metric generated_tokens) tokens together, not 24"
[ "$(metric steps)" = 7 ] || wrong "$(metric steps) steps for 8 tokens of each, not 7"
generate -f "$work/prompts" --parallel 2 -n 8 --ids >"$work/together"
cmp -s "$work/alone" "$work/together" || wrong "two groups make other tokens"
generate -f "$work/prompts" --parallel 3 -n 4 >"$work/text"
sed -n 1p "$work/text" | grep -qx '\[1\] The capital of France is' || wrong "no prompt before its text"
generate -f "$work/prompts" --parallel 3 --lookup 2>/dev/null
[ $? = 2 ] || wrong "--parallel with --lookup is taken"

# Guessed tokens: the same text in fewer steps.
poem='one two three four five six. one two three four five six. one two three'
generate -p "$poem" -n 24 >"$work/plain"
plain=$(metric steps)
generate -p "$poem" -n 24 --lookup >"$work/guessed"
cmp -s "$work/plain" "$work/guessed" || wrong "--lookup makes another text"
[ "$(metric steps)" -lt "$plain" ] || wrong "--lookup takes $(metric steps) steps, $plain without"

# A prompt of ids: the text's own make the same text, and a file whose tokenizer cannot be made does.
"$picograd" tokenize -m smollm2 -p "$poem" >"$work/ids"
generate --prompt-ids "$(cat "$work/ids")" -n 24 >"$work/guessed"
cmp -s "$work/plain" "$work/guessed" || wrong "the prompt's ids make another text"
generate --prompt-ids "$(tr ' ' , <"$work/ids")" -n 8 --ids >"$work/plain"
model=$(find "${PG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/picograd}/models/" -name 'SmolLM2-135M-Instruct.Q4_1.gguf')
LC_ALL=C sed 's/tokenizer\.ggml\.model/tokenizer.ggml.nodel/' "$model" >"$work/none.gguf"
generate -m "$work/none.gguf" --prompt-ids "$(cat "$work/ids")" -n 8 >"$work/guessed" ||
    wrong "ids need a tokenizer: $(cat "$work/said")"
cmp -s "$work/plain" "$work/guessed" || wrong "other ids without a tokenizer"
grep -q 'Ids need none' "$work/said" || wrong "not said that there is no tokenizer"
generate -m "$work/none.gguf" -p a -n 8 >/dev/null
[ $? = 1 ] || wrong "a text is taken without a tokenizer"
rm "$work/none.gguf"

# A kept state: what a prompt begins with is not read again.
generate -p "$poem" -n 4 --state "$work/state" >"$work/first"
tokens=$(metric prompt_tokens)
generate -p "$poem" -n 4 --state "$work/state" >"$work/second"
cmp -s "$work/first" "$work/second" || wrong "another text from the state"
[ "$(metric prompt_tokens)" = 1 ] || wrong "$(metric prompt_tokens) of $tokens tokens are read again"
generate -p "$poem and" -n 4 --state "$work/state" >/dev/null
[ "$(metric prompt_tokens)" -lt 6 ] || wrong "$(metric prompt_tokens) tokens are read behind the state"
"$picograd" generate -m random -p a -n 1 --state "$work/state" >/dev/null 2>"$work/said"
[ $? = 1 ] || wrong "a state of another model is taken"
grep -q 'another model' "$work/said" || wrong "not said whose state it is: $(cat "$work/said")"
echo nonsense >"$work/bad"
generate -p a -n 1 --state "$work/bad" >/dev/null
[ $? = 1 ] && grep -q 'not a saved state' "$work/said" || wrong "a bad state: $(cat "$work/said")"

# A full context: ends, or forgets its older half.
generate -p 'Once upon a time' -c 24 -n -1 >/dev/null || wrong "a full context fails"
[ "$(metric generated_tokens)" = 20 ] || wrong "$(metric generated_tokens) tokens fill the context, not 20"
grep -q 'context of 24 tokens is full' "$work/said" || wrong "not said that the context is full"
generate -p 'Once upon a time' -c 24 -n 40 --on-full shift --keep -1 --ignore-eos >/dev/null
[ "$(metric generated_tokens)" = 40 ] || wrong "$(metric generated_tokens) tokens by shifting, not 40"
generate -p a --on-full never >/dev/null
[ $? = 2 ] || wrong "--on-full never is taken"
exit $failed
