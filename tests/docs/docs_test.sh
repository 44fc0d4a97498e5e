#!/bin/bash
# docs_test.sh - README.md and docs/*.md say what is so.
# In: fenced blocks, by the words behind the three backticks:
#   c file=src/x.c         the block stands in that file, letter for letter
#   sh run [needs=model]   the commands run at the root of the repository, on AVX2
#   output                 is what they print, on both streams; ... stands for any text in a line
# Out: a test a block, and one a path in `backticks`, which must exist.
# `docs_test.sh update` writes what the blocks should be into the documents instead: code is found
# again where only its line breaks have changed, output that does not match is replaced.
set -u
export LC_ALL=C NO_COLOR=1 PG_ISA=avx2
unset PG_MODE PG_DEBUG PG_DUMP PG_KERNEL
cd "$(dirname "$0")/../.." || exit 1
update=$([ "${1:-}" = update ] && echo yes)
build=$(realpath -m "${PG_BUILD:-build}")
[ -x "$build/picograd" ] || { echo "no $build/picograd; run make first" && exit 1; }
work=$build/docs-work
rm -rf "$work"
mkdir -p "$work/bin" "$work/root" "$work/cache"
passed=0 failed=0 skipped=0
skips=()

# A root whose build/ is $PG_BUILD, and a cc that links with what picograd was built with. Kernels
# are compiled by the one that was there.
for entry in *; do
    [ "$entry" != build ] && ln -s "$PWD/$entry" "$work/root/$entry"
done
ln -s "$build" "$work/root/build"
read -r compiler _ <"$build/flags"
PG_CC=$(command -v cc || command -v "$compiler")
export PG_CC
sanitize=$(grep -o -e '-fsanitize=[^ ]*' "$build/flags" | sed -n 1p)
{
    echo '#!/bin/sh'
    echo "exec $(command -v "$compiler") $sanitize \"\$@\""
} >"$work/bin/cc"
chmod +x "$work/bin/cc"
export PATH=$work/bin:$PATH

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAILED $1"
}
skip() {
    skipped=$((skipped + 1))
    case " ${skips[*]:-} " in *"$2"*) ;; *) skips+=("$2") && echo "skip: $1: $2" ;; esac
}

# Block n of a document into $work/n, and a line `n line words` for each.
blocks() {
    awk -v to="$work/" '
        /^```/ && !open { open = 1; n++; print n, NR, substr($0, 4); printf "" > (to n); next }
        /^```/          { open = 0; close(to n); next }
        open            { print > (to n) }' "$1"
}

# The lines of a file that a block is made of, wherever they are broken: white space, quotes and
# what marks a comment do not count.
lines_like() {
    awk '{ text = $0; gsub(/[ \t"*\/]/, "", text) }
         NR == FNR { want = want text; next }
         { start[FNR] = length(all) + 1; line[FNR] = $0; all = all text }
         END {
             at = index(all, want)
             for (i = 1; at && i <= FNR; i++) {
                 if (start[i] < at || start[i] >= at + length(want)) continue
                 if (begun += line[i] != "") print line[i]
             }
         }' "$1" "$2"
}

check_code() { # name, block, file
    local text
    text=$(<"$2")
    if [ ! -f "$3" ]; then fail "$1: there is no $3"
    elif [[ $'\n'$(<"$3")$'\n' == *$'\n'"$text"$'\n'* ]]; then pass
    elif [ "$update" ] && lines_like "$2" "$3" >"$2.new" && [ -s "$2.new" ]; then mv "$2.new" "$2"
    else fail "$1: $3 has no such lines"; fi
}

have_avx2() { grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; }
have_model() { "$build/picograd" tokenize -m smollm2 -p . >/dev/null 2>&1; }

matches() { # printed, block of output
    local -a printed wanted
    local i
    mapfile -t printed <"$1"
    mapfile -t wanted < <(sed 's/[^[:alnum:][:space:].]/\\&/g; s/\.\.\./*/g' "$2")
    [ ${#printed[@]} = ${#wanted[@]} ] || return 1
    for i in "${!wanted[@]}"; do
        # shellcheck disable=SC2053  # it is a pattern
        [[ ${printed[i]} == ${wanted[i]} ]] || return 1
    done
}

check_output() { # name, block of commands, block of output, words
    local status cache=$work/cache
    if ! have_avx2; then
        skip "$1" "this CPU has no AVX2, on which the output depends"
        return
    fi
    if [[ $4 == *needs=model* ]]; then
        if ! have_model; then
            skip "$1" "smollm2 is not here; picograd models pull smollm2"
            return
        fi
        cache=${PG_CACHE:-}
    fi
    (cd "$work/root" && PG_CACHE=$cache timeout 120 bash -eo pipefail "$2") \
        >"$work/printed" 2>&1 </dev/null
    status=$?
    if [ $status != 0 ]; then
        fail "$1: exit status $status"
        tail -20 "$work/printed"
    elif matches "$work/printed" "$3"; then pass
    elif [ "$update" ]; then cp "$work/printed" "$3"
    else
        fail "$1: other output"
        diff "$3" "$work/printed"
    fi
}

check_paths() {
    while read -r path; do
        if compgen -G "$path" >/dev/null; then pass; else fail "$1: there is no $path"; fi
    done < <(grep -oE '`(src|include|tests|docs|scripts|bench|examples)/[A-Za-z0-9_./*-]+`' "$1" |
        tr -d '`' | sort -u)
}

# The document again, its blocks from $work.
rewrite() {
    awk -v from="$work/" '
        /^```/ && !open {
            open = 1; n++; print
            while ((getline line < (from n)) > 0) print line
            next
        }
        /^```/          { open = 0 }
        !open           { print }' "$1" >"$work/document" && cp "$work/document" "$1"
}

for document in README.md docs/*.md; do
    run=
    while read -r n line words; do
        name=$document:$line
        file=$(sed -n 's/.*file=\([^ ]*\).*/\1/p' <<<"$words")
        if [ "$run" ] && [ "$words" != output ]; then fail "$name: an output block belongs here"; fi
        if [ "$file" ]; then check_code "$name" "$work/$n" "$file"; fi
        if [ "$run" ] && [ "$words" = output ]; then
            check_output "$name" "$run" "$work/$n" "$run_words"
        fi
        run=
        case $words in "sh run"*) run=$work/$n run_words=$words ;; esac
    done < <(blocks "$document")
    [ "$run" ] && fail "$document: its last commands have no output block"
    [ "$update" ] && rewrite "$document"
    check_paths "$document"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
