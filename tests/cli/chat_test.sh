#!/bin/bash
# chat_test.sh - picograd chat as a user meets it, by a pipe and on a terminal.
# In: $PG_BUILD/picograd; the SmolLM2 file in the user's cache, without which most is skipped.
# Everything is written in a folder of its own, the cache of kernels too.
# Out: a line for each failure, the skips with their reason, the counts.
set -u
. "$(dirname "$0")/check.sh"
unset NO_COLOR

# chat INPUT ARGUMENT...: $status, and what it prints in $work/out and $work/err.
chat() {
    local input=$1
    shift
    printf '%b' "$input" | "$picograd" chat "$@" >"$work/out" 2>"$work/err"
    status=$?
}
# talk INPUT ARGUMENT...: with the model, likeliest tokens only.
talk() {
    local input=$1
    shift
    chat "$input" -m smollm2 --temp 0 "$@"
}
says() { grep -qF -- "$1" "$work/err"; }
line() { sed -n "$1p" "$work/out"; }
reads() { sed -n 's/^picograd: read \([0-9]*\) tokens.*/\1/p' "$work/err" | tr '\n' ' '; }

cache=${PG_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/picograd}
model=$(find "$cache/models/" -name 'SmolLM2-135M-Instruct.Q4_1.gguf' 2>/dev/null)
"$picograd" tokenize -m "$model" -p . >/dev/null 2>&1 || model=  # a build without PCRE2
export PG_CACHE=$work/cache XDG_STATE_HOME=$work/state
mkdir -m 700 "$PG_CACHE" "$PG_CACHE/models"

# ---- refusals -----------------------------------------------------------------------------------
chat "" --help
check "--help" is $status 0
check "--help says how to leave" grep -q "Ctrl-D" "$work/out"
chat "Hi\n"
check "no model" is "$status $(grep -c 'which model?' "$work/err")" "2 1"
chat "Hi\n" -m random
check "random weights" is "$status $(grep -c 'know no conversation' "$work/err")" "2 1"
chat "Hi\n" -m random --on-full burst
check "--on-full" is "$status $(grep -c 'stop or shift' "$work/err")" "2 1"

if [ -z "$model" ]; then
    echo "$passed passed, $failed failed, 1 skipped"
    [ $failed = 0 ] || exit 1
    echo "skip: smollm2 is not here; picograd models pull smollm2"
    exit 77
fi
ln -s "$(realpath "$model")" "$PG_CACHE/models/"

talk "Hi\n" --chat-template chatlm
check "an unknown template: status" is $status 1
check "an unknown template: names" says "no chat template is called chatlm. There are: chatml, llama2"
talk "Hi\n" --chat-template gemma
check "a template whose tokens the model lacks" is "$status $(grep -c 'needs the token <start_of_turn>' "$work/err")" "1 1"

# ---- a conversation -----------------------------------------------------------------------------
# The system message and its frame are 21 tokens, a message's 9: <|im_start|>user\n, <|im_end|>\n and
# <|im_start|>assistant\n; what closes the answer before, <|im_end|>\n, is 2 more.
question='What is the capital of France?\nAnd of Italy?\nWhich is older?\n'
talk "$question" -v
cp "$work/out" "$work/answers"
check "three answers" is "$status $(wc -l <"$work/out")" "0 3"
check "the first answer" is "$(line 1)" "The capital of France is Paris."
check "the second follows from the first" is "$(line 2)" "The capital of Italy is Rome."
tokens() { "$picograd" tokenize -m smollm2 -p "$1" | wc -w; }
first=$(($(tokens "What is the capital of France?") + 30))
second=$(($(tokens "And of Italy?") + 11)) third=$(($(tokens "Which is older?") + 11))
check "only what is new is read" is "$(reads)" "$first $second $third "
check "-v shows the ids read" is \
    "$(grep 'ids read:' "$work/err" | while read -r _ _ _ ids; do wc -w <<<"$ids"; done | tr '\n' ' ')" \
    "$first $second $third "
own="<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
"
whole="$own<|im_start|>user
What is the capital of France?<|im_end|>
<|im_start|>assistant
$(line 1)<|im_end|>
<|im_start|>user
And of Italy?<|im_end|>
<|im_start|>assistant
$(line 2)<|im_end|>
<|im_start|>user
Which is older?<|im_end|>
<|im_start|>assistant
"
check "turn by turn is as read at once" is "$(line 3)" \
    "$("$picograd" generate -m smollm2 --temp 0 -p "$whole" 2>/dev/null)"
check "answers alone on standard output" is "$(grep -c picograd "$work/out")" 0

talk "${question}/reset\n$question"
check "/reset begins again" is "$(cat "$work/out")" "$(cat "$work/answers" "$work/answers")"
talk "${question}/undo\nWhich is older?\n/regen\n" -v
check "/undo and /regen come to the same" is "$(sed -n '4,5p' "$work/out")" "$(line 3)
$(line 3)"
check "/regen reads one token" is "$(reads)" "$first $second $third $third 1 "
talk "What is the capital of France?\n/undo\n/undo\n/regen\n"
check "nothing to undo" says "there is nothing to take back"
check "nothing to regenerate" is "$status $(grep -c 'there is no answer yet' "$work/err")" "1 1"

talk "/system\n/system You are a pirate.\n/system\nHi\n" -n 4
check "the model's own system message" says "message is: You are a helpful AI assistant named SmolLM"
check "/system" says "message is: You are a pirate."
cp "$work/out" "$work/pirate"
talk "Hi\n" -n 4 --system "You are a pirate."
check "--system says the same" cmp -s "$work/out" "$work/pirate"

talk "/hepl\n/undo it\n/save\n/nonsense\n /slash\n" -n 1 -v
check "a command nearly right" says "no command /hepl; did you mean /help?"
check "a command with too much" says "/undo takes nothing; what is 'it' for?"
check "a command with too little" says "/save FILE: which?"
check "no such command" says "no command /nonsense. /help lists them"
check "a blank before a slash" is "$status $(wc -l <"$work/out")" "1 1"
talk "/help\n/stats\n/exit\nHi\n"
check "/help, /stats, /exit" is "$status $(wc -c <"$work/out") $(grep -c '^  /' "$work/err")" "0 0 9"

# ---- messages of several lines ------------------------------------------------------------------
# The answer of one token is not read before the next message is.
talk 'Say\\\nthis\n"""Say\nthis"""\n"""\nSay\nthis\n"""\n\n' -n 1 -v
same=$(($(tokens $'Say\nthis') + 11))
check "backslash and quotes" is "$(reads)" "$((same + 19)) $((same + 1)) $((same + 1)) "
talk "Say this\\\\" -n 1 -v
check "the end within a message" is "$(reads)" "$(($(tokens "Say this") + 30)) "
talk '\xff\xfe caf\xc3 \xe2\x82\n' -n 2
check "invalid UTF-8" is $status 0
talk 'x' -p "Hi" --single-turn -n 2 -v
check "--single-turn" is "$status $(wc -l <"$work/out") $(reads)" "0 1 $(($(tokens Hi) + 30)) "

# ---- files --------------------------------------------------------------------------------------
talk "What is the capital of France?\nAnd of Italy?\n/save $work/saved\n"
check "/save" is "$status $(wc -l <"$work/out")" "0 2"
talk "/load $work/saved\nWhich is older?\n" -v
check "/load goes on" is "$(cat "$work/out")" "$(sed -n 3p "$work/answers")"
check "/load reads nothing again" is "$(reads)" "$third "
talk "What is the capital of France?\nAnd of Italy?\n" --state "$work/state-file"
talk "Which is older?\n" --state "$work/state-file" -v
check "--state goes on" is "$(cat "$work/out") $(reads)" "$(sed -n 3p "$work/answers") $third "
check "--state keeps it" is "$(find "$work/state-file" -newer "$work/saved" | wc -l)" 1
chat "Name a colour.\n/save $work/drawn\nAnother.\n" -m smollm2 --seed 5 -n 8
line 2 >"$work/wanted"
chat "/load $work/drawn\nAnother.\n" -m smollm2 --seed 6 -n 8
check "/load goes on with the same draws" cmp -s "$work/out" "$work/wanted"
head -c 5000 "$work/saved" >"$work/cut"
"$picograd" generate -m smollm2 -p Hi -n 2 --temp 0 --state "$work/other" >"$work/out" 2>&1
talk "/load $work/cut\n/load $work/none\n/load $work/other\nHi\n/save $work/none/x\n" -n 2
check "a file cut short" says "$work/cut"
check "no file" says "No such file"
check "a state without a conversation" says "holds a state, but no conversation"
check "a folder that is not there" is "$status $(grep -c 'cannot write' "$work/err") $(wc -l <"$work/out")" "1 1 1"
talk "/save $work/none/x\n" -n 2
check "nothing to save" says "nothing to save yet"

# ---- a full context -----------------------------------------------------------------------------
talk "Write a long story about a cat.\nGo on.\n" -c 64
check "the context is full" says "the context of 64 tokens is full"
check "a message that does not fit" is "$status $(grep -c 'leave no room for an answer' "$work/err")" "1 1"
talk "Write a long story about a cat.\nGo on.\n" -c 64 --on-full shift -n 60
check "--on-full shift" is "$status $(grep -c 'of the oldest are forgotten' "$work/err")" "0 2"

# ---- Ctrl-C -------------------------------------------------------------------------------------
# until_ COMMAND...: whether it comes true within half a minute.
until_() {
    local i
    for ((i = 0; i < 300; i++)); do
        "$@" && return
        sleep 0.1
    done
    return 1
}
mkfifo "$work/in"
"$picograd" chat -m smollm2 --temp 0 -v >"$work/out" 2>"$work/err" <"$work/in" &
chat=$!
exec 3>"$work/in"
echo "Write a very long story about a cat." >&3
check "an answer begins" until_ test -s "$work/out"
kill -INT $chat
check "Ctrl-C ends the answer" until_ says "picograd: read"
check "but not the program" kill -0 $chat
: >"$work/out"
echo "What is the capital of France?" >&3
exec 3>&-
wait $chat
status=$?
check "and the next is answered" is "$status $(tr -d '\0' <"$work/out" | grep -c Paris)" "0 1"

# ---- a terminal ---------------------------------------------------------------------------------
if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1; then
    # terminal LINE...: what a terminal shows, Ctrl-D at last. A line is typed when a prompt stands.
    terminal() {
        local prompts=0 line
        rm -f "$work/keys"
        mkfifo "$work/keys"
        : >"$work/out"
        TERM=xterm timeout 60 script -qfec "'$picograd' chat -m smollm2 --temp 0 -n 3" \
            "$work/out" >/dev/null 2>"$work/err" <"$work/keys" &
        exec 4>"$work/keys"
        for line in "$@" $'\004'; do
            prompts=$((prompts + 1))
            until_ prompted $prompts
            [ "$line" = $'\004' ] || line=$line$'\r'
            printf '%s' "$line" >&4
        done
        wait $!
        exec 4>&-
    }
    prompted() { [ "$(tr -d '\033' <"$work/out" | grep -cE '^(\[1;32m)?>')" -ge "$1" ]; }
    terminal Hi /stats
    check "a terminal: the prompt in colour" grep -q $'\033\[1;32m>' "$work/out"
    check "a terminal: it greets" grep -q "/help lists commands" "$work/out"
    if [ -e "$work/state/picograd/history" ]; then
        check "history" is "$(cat "$work/state/picograd/history")" "Hi
/stats"
        check "history is its owner's" is "$(stat -c %a "$work/state/picograd/history")" 600
    else
        echo "skip: history: built without libedit" && skipped=$((skipped + 1))
    fi
    NO_COLOR=1 terminal Hi
    check "NO_COLOR" is "$(grep -c $'\033\[1;32m' "$work/out")" 0
else
    echo "skip: a terminal: there is no script(1)" && skipped=$((skipped + 1))
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
