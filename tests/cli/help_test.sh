#!/bin/bash
# help_test.sh - man pages and completions have what --help has: every command, every option.
set -u
. "$(dirname "$0")/check.sh"

# The page as plain words: without its macros and escapes, blanks as one, other signs as ?.
plain() {
    sed -e '/^\.\\"/d' -e 's/^\.[A-Z]*//' -e 's/\\f[BIR]//g' -e 's/\\-/-/g' -e "s/\\\\(aq/'/g" \
        -e 's/\\(ti/~/g' -e 's/\\(ha/^/g' -e 's/\\(ga/`/g' -e 's/\\&//g' -e 's/\\e/\\/g' \
        -e 's/\\\[u[0-9A-F]*\]/?/g' "$1" | tr -s ' \n' ' '
}
has() { [[ $page == *"$1"* ]]; }
if command -v groff >/dev/null; then renders=yes; else renders= && echo "groff is not here"; fi

mapfile -t commands < <("$picograd" help --commands)
check "help --commands" test ${#commands[@]} -ge 8
"$picograd" --help >"$work/overview"
for command in "${commands[@]}"; do
    check "--help lists $command" grep -qE "^  $command +[a-z]" "$work/overview"
done

for name in '' "${commands[@]}"; do
    # shellcheck disable=SC2086  # '' is no word
    "$picograd" help --man $name >"$work/page"
    page=$(plain "$work/page")
    check "$name: title" has "PICOGRAD${name:+-${name^^}} 1"
    if [ "$renders" ]; then
        check "$name: groff has nothing to say" is "$(groff -man -ww -Tutf8 -P-cbou "$work/page" \
            2>&1 >"$work/shown")" ""
        check "$name: it shows" grep -q '^SYNOPSIS$' "$work/shown"
    fi
    if command -v mandoc >/dev/null; then
        check "$name: mandoc finds no error" mandoc -Tlint -Werror "$work/page"
    fi
    # Every line of help is there, with options as they are written; the usage's first line is the
    # synopsis, and a help text that goes on below itself is one text.
    if [ "$name" ]; then "$picograd" "$name" --help; else cat "$work/overview"; fi >"$work/help"
    while read -r -a words; do
        [ ${#words[@]} = 0 ] && continue
        check "$name: ${words[*]}" has " ${words[*]}"
    done < <(if [ "$name" ]; then sed -e 's/^usage: //' -e 2d -e 's/[^ -~]/?/g' "$work/help"
        else sed -n -e '/^  picograd/p' -e 's/^  \(PG_[A-Z]*\) /\1/p' "$work/help"; fi)
done
page=$(plain <("$picograd" help --man))
for command in "${commands[@]}"; do
    check "picograd(1) names $command" has " picograd-$command(1) "
done
check "an unknown command" is "$("$picograd" help --man none 2>&1)" \
    "picograd: no command none. Try: picograd --help"

# ---- completions --------------------------------------------------------------------------------
# offers WORD...: what bash offers for the last of the words.
offers() {
    (
        cd "$work" || exit
        # shellcheck disable=SC1090  # made above
        source "$work/completion"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _picograd
        echo "${COMPREPLY[*]}"
    )
}
"$picograd" help --bash >"$work/completion"
check "bash reads it" bash -n "$work/completion"
touch "$work/some model.gguf"
check "commands" is "$(offers picograd gen)" "generate"
check "commands of help" is "$(offers picograd help tok)" "tokenize"
check "models" is "$(offers picograd generate -m smol)" "smollm2"
check "files" is "$(offers picograd generate -f some)" "some model.gguf"
check "words" is "$(offers picograd cache c)" "clear completion"
check "a number is the user's" is "$(offers picograd generate -n '')" ""
for command in "${commands[@]}"; do
    for option in $("$picograd" "$command" --help | grep -oE -- '^  (-., )?--[a-z0-9-]+' |
        grep -oE -- '--[a-z0-9-]+'); do
        check "$command $option" grep -qwF -- "$option" <<<"$(offers picograd "$command" "$option")"
    done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
