#!/bin/bash
# format.sh [fix] - is the C laid out as .clang-format says? With "fix": lays it out.
# Tables (*.def) are laid out by hand.
set -u
cd "$(dirname "$0")/.." || exit 1
tool=$(command -v clang-format-14 || command -v clang-format) ||
    { echo "clang-format is missing; as root:  apt-get install clang-format" >&2; exit 1; }
mapfile -t files < <(find src include tests bench examples -type f -name '*.[ch]' 2>/dev/null | sort)
[ ${#files[@]} = 0 ] && exit 0
if [ "${1:-}" = fix ]; then exec "$tool" -i "${files[@]}"; fi
bad=0
for file in "${files[@]}"; do
    "$tool" "$file" | diff -u --label "$file" --label "laid out" "$file" - || bad=1
done
[ $bad = 0 ] && echo "format: ok" || echo "Hint: make format-fix" >&2
exit $bad
