#!/bin/bash
# tokenize_test.sh - picograd tokenize: ids, pieces, ids back to text.
# In: $PG_BUILD/picograd; the SmolLM2 file of the user's cache, else the test is skipped.
# Out: a line for each failure, the counts.
set -u
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/../.." || exit 1
picograd=$(realpath "${PG_BUILD:-build}")/picograd
cache=${PG_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/picograd}
model=$(find "$cache/models/" -name 'SmolLM2-135M-Instruct.Q4_1.gguf' 2>/dev/null)
"$picograd" tokenize -m "$model" -p . >/dev/null 2>&1 || model=  # a build without PCRE2
if [ -z "$model" ]; then
    echo "smollm2 is not in the cache; picograd models pull smollm2"
    exit 77
fi
passed=0 failed=0

count() {  # count NAME STATUS WANTED-STATUS GOT WANTED
    if [ "$2" = "$3" ] && [ "$4" = "$5" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s: status %s, not %s\n    got:    %s\n    wanted: %s\n' "$1" "$2" "$3" "$4" "$5"
    fi
}
# prints NAME WANTED ARGUMENT...: done, and exactly that on standard output.
prints() {
    local name=$1 wanted=$2 got
    shift 2
    got=$("$picograd" tokenize -m "$model" "$@" 2>&1 </dev/null)
    count "$name" $? 0 "$got" "$wanted"
}
# refuses STATUS WANTED ARGUMENT...: that status, and exactly that line on standard error.
refuses() {
    local status=$1 wanted=$2 got
    shift 2
    got=$("$picograd" tokenize -m "$model" "$@" 2>&1 >/dev/null </dev/null)
    count "$*" $? "$status" "$got" "$wanted"
}

prints ids "19556 28 905 17" -p "Hello, world!"
prints "a control token" "2 66" -p "<|im_end|>R"
prints "no control token" "44 108 306 79 486 108 46" -p "<|im_end|>" --no-special
prints "no BOS token, as without" "19556" -p Hello --no-bos
prints pieces $'26843 "Hi"\n476 " \\""\n2756 "é"\n35769 "\\\\\\""\n198 "\\n"\n180 "\\xe9"\n122 "\\xac"\n126 "\\xb1"' \
    -p $'Hi "é\\"\n鬱' --pieces
prints decode "Hello, world!" --decode "19556 28 905 17"
prints "decode, with spaces" " world" --decode "  905  "
prints "decode nothing" "" --decode ""
prints "decode a character in parts" "鬱" --decode "180 122 126"
refuses 1 "picograd: --decode: there is no token 49152; the vocabulary has 49152" --decode 49152
refuses 1 "picograd: --decode: there is no token -1; the vocabulary has 49152" --decode -1
refuses 2 "picograd: --decode takes ids with spaces between them, not: x" --decode "1 x"
refuses 2 "picograd: --decode takes ids with spaces between them, not: 1,2" --decode 1,2
refuses 2 "picograd: --decode takes ids with spaces between them, not: 99999999999999999999" \
    --decode 99999999999999999999
refuses 2 "picograd: --decode takes ids instead of a text: leave -p and -f out" --decode 1 -p a

echo "$passed passed, $failed failed"
[ $failed = 0 ]
