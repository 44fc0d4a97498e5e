#!/bin/bash
# layers.sh - data flows one way: a layer includes only itself and the layers above it.
# In: the #include "..." lines of src/.  Out: one line for each that points the wrong way.
# A name without a folder is a file of the same folder; include/picograd.h is above all.
set -u
cd "$(dirname "$0")/.." || exit 1
layers="base ir rewrite schedule codegen runtime engine tensor io models cli"

rank() {
    local place=0 layer
    for layer in $layers; do
        [ "$layer" = "$1" ] && echo $place && return
        place=$((place + 1))
    done
    echo -1
}

bad=0
while IFS=: read -r file line text; do
    name=${text#*\"}
    name=${name%%\"*}
    [ "$name" = picograd.h ] && continue
    own=${file#src/}
    case $name in
    ../* | */../*) why="goes up a folder" ;;
    */*)
        why=
        there=$(rank "${name%%/*}") here=$(rank "${own%%/*}")
        [ "$there" = -1 ] && why="names no layer"
        [ "$there" -gt "$here" ] && why="points down"
        [ -e "src/$name" ] || why="is not there"
        ;;
    *)
        why=
        [ -e "${file%/*}/$name" ] || why="is not in ${file%/*}"
        ;;
    esac
    [ -n "$why" ] && echo "$file:$line: \"$name\" $why" && bad=1
done < <(grep -rnE '^[ \t]*#[ \t]*include[ \t]*"' src --include='*.[ch]' --include='*.def')
[ $bad = 0 ] && echo "layers: ok"
exit $bad
