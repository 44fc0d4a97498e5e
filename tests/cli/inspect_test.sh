#!/bin/bash
# inspect_test.sh - picograd inspect shows what a file holds, each part as asked for. The file is
# made here, byte by byte; it has what JSON must quote and what it has no numbers for.
set -u
. "$(dirname "$0")/check.sh"
export LC_ALL=C

has() { grep -qxF -- "$1" "$work/out"; }
inspect() { "$picograd" inspect "$work/some.gguf" "$@" >"$work/out" 2>"$work/err"; }

# le BYTES NUMBER: little-endian.
le() {
    local i escaped=
    for ((i = 0; i < $1; i++)); do printf -v escaped '%s\\x%02x' "$escaped" $((($2 >> 8 * i) & 255)); done
    printf '%b' "$escaped"
}
text() { le 8 ${#1} && printf '%s' "$1"; }
# key NAME TYPE: its value follows. Types: u8 0, u32 4, i32 5, f32 6, bool 7, text 8, array 9, u64 10,
# f64 12.
key() { text "$1" && le 4 "$2"; }
key_text() { key "$1" 8 && text "$2"; }
key_u32() { key "$1" 4 && le 4 "$2"; }
# array NAME TYPE COUNT
array() { key "$1" 9 && le 4 "$2" && le 8 "$3"; }
template=$'{% first %}\n{{ "second" }}'
{
    printf GGUF
    le 4 3 && le 8 2 && le 8 16
    key_text general.architecture mamba
    key_text general.name $'a "name"\twith \\ and \xff'
    key_u32 mamba.block_count 7
    key mamba.rope.freq_base 6 && le 4 $((0x3dcccccd)) # 0.1
    key_u32 mamba.context_length 4096
    key some.nan 6 && le 4 $((0x7fc00000))
    key some.large 10 && le 8 -1
    key some.double 12 && le 8 $((0x3fb999999999999a)) # 0.1
    key some.flag 7 && le 1 1
    array some.bytes 0 3 && le 1 1 && le 1 2 && le 1 255
    array some.zeros 0 65 && le 65 0
    key_text tokenizer.ggml.model gpt2
    array tokenizer.ggml.tokens 8 4 && text '<s>' && text a && text $'b\n' && text '</s>'
    array tokenizer.ggml.token_type 5 4 && le 4 3 && le 4 1 && le 4 1 && le 4 3
    key_u32 tokenizer.ggml.eos_token_id 3
    key_text tokenizer.chat_template "$template"
    text first.weight && le 4 2 && le 8 4 && le 8 2 && le 4 0 && le 8 0
    text other.weight && le 4 1 && le 8 32 && le 4 8 && le 8 32
} >"$work/header"
size=$(stat -c %s "$work/header")
{ cat "$work/header" && head -c $(((32 - size % 32) % 32 + 32 + 34)) /dev/zero; } >"$work/some.gguf"

# ---- for a person -------------------------------------------------------------------------------
inspect
check "status" is $? 0
check "the model" has "mamba of 0.0 k parameters: layers 7, context 4096, RoPE base 0.1"
check "keys" has "metadata: 16 keys"
check "a key" grep -qE '^  mamba.block_count +7$' "$work/out"
check "the tokenizer's model" has "  model              gpt2"
check "kinds" has "  tokens             4: 2 normal, 2 control"
check "special tokens" has "  eos                3  </s>"
check "why it is not usable" grep -q '^  not usable         .*some.gguf' "$work/out"
check "the template's first line" has "  chat template      not known: {% first %}"
check "tensors" has "  first.weight  F32            2 x 4         32 B"
check "totals" has "  all           2        0.000 M         66 B    13.20"
inspect --tensors first
check "--tensors: one" has "tensors: 1"
check "--tensors: nothing else" is "$(grep -c 'metadata\|tokenizer' "$work/out")" 0
inspect --keys mamba. --tensors other
check "--keys: three" has "metadata: 3 keys"
check "both" has "  other.weight  Q8_0              32         34 B"

# ---- one value ----------------------------------------------------------------------------------
inspect --key some.double
check "all digits that it has" is "$(<"$work/out")" 0.1
inspect --key mamba.rope.freq_base
check "and no more" is "$(<"$work/out")" 0.1
inspect --key some.large
check "the largest" is "$(<"$work/out")" 18446744073709551615
inspect --key some.bytes
check "an array" is "$(xargs <"$work/out")" "1 2 255"
inspect --key general.name
check "a text, byte by byte" is "$(<"$work/out")" $'a "name"\twith \\ and \xff'
inspect --template
check "the template" is "$(<"$work/out")" "$template"
inspect --key mamba.blok_count
check "no such key: status" is $? 1
check "no such key" grep -q 'no key mamba.blok_count; did you mean mamba.block_count?$' "$work/err"

# ---- JSON ---------------------------------------------------------------------------------------
inspect --key general.name --json
check "a text in JSON" is "$(<"$work/out")" $'"a \\"name\\"\\twith \\\\ and \xef\xbf\xbd"'
inspect --template --json
check "the template in JSON" is "$(<"$work/out")" '"{% first %}\n{{ \"second\" }}"'
inspect --key some.zeros --json
check "a long array in full" is "$(tr -cd 0 <"$work/out" | wc -c)" 65
inspect --json
check "--json: status" is $? 0
check "--json: the model" is "$(sed -n '/"model": {/,/}/p' "$work/out" | tr -d ' \n')" \
    '"model":{"architecture":"mamba","parameters":40,"layers":7,"context":4096,"rope_base":0.1},'
for line in '"some.nan": null,' '"some.large": 18446744073709551615,' '"some.flag": true,' \
    '"some.bytes": [1, 2, 255],' '"some.zeros": {"array": "u8", "count": 65},' '"tokens": 4,' \
    '"special": {"eos": {"id": 3, "text": "</s>"}},' \
    '{"name": "first.weight", "type": "F32", "shape": [2, 4], "bytes": 32},'; do
    check "--json" has "    $line"
done
if command -v python3 >/dev/null; then
    check "--json is JSON" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$work/out"
fi
inspect --json --keys some
check "--json and a filter: status" is $? 2

# ---- a folder -----------------------------------------------------------------------------------
skipped=0
if "$picograd" devices --json | grep -qF '{"pcre2": true, "jansson": true,'; then
    "$picograd" inspect tests/models/small/qwen2-window >"$work/out" 2>"$work/err"
    check "a folder's model" has "qwen2 of 68.2 k parameters: layers 2, width 64, hidden 64, heads 4, \
key heads 2, window 8, vocabulary 288, context 512, RoPE base 1000000, RoPE size 16"
    check "a folder's template" has "  chat template      chatml"
else
    echo "skip: a folder: this build has no PCRE2 or no jansson" && skipped=1
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
