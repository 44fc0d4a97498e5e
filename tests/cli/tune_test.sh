#!/bin/bash
# tune_test.sh - bench --tune as a user meets it: what it prints and keeps, Ctrl-C, a damaged file.
# In: $PG_BUILD/picograd, built with SQLite.  Out: a line for each failure, the counts.
# Everything is written in a folder of its own. Nothing is said about how fast anything is.
set -u
. "$(dirname "$0")/check.sh"
export PG_CACHE=$work/cache
mkdir -m 700 "$PG_CACHE"
database=$PG_CACHE/tuned.db

has() { grep -qE -- "$1" "$work/out"; }
says() { grep -qF -- "$1" "$work/err"; }
lines() { wc -l <"$1"; }

"$picograd" devices | grep -q 'sqlite3' || { echo "this build has no SQLite"; exit 77; }

try bench --tune --mode eager softmax:16
check "eager: status" is $status 2
check "eager: one line" is "$(lines "$work/err")" 1

export PG_BEAM=1
try bench --tune linear:1x64x64 -r 1
check "tune: status" is $status 0
check "tune: nothing on standard error" is "$(lines "$work/err")" 0
check "tune: a line a kernel" has '^reduce_1x64 +[0-9.]+ us +[0-9.]+ us +[0-9.]+x +[0-9.]+ s '
check "tune: then the row" has '^linear:1x64x64 .* GFLOP/s'
try bench --tune linear:1x64x64 -r 1
check "tune again: known" has ', known before$'
unset PG_BEAM

try cache info
check "cache info" has '/tuned.db: 1 tuned schedule$'
try explain linear:1x64x64 --stage tune
check "explain: what it took" has '^# [0-9.]+ s of search; side by side at the end'
check "explain: the roof" has '^# [0-9.]+ MFLOP, [0-9.]+ MB; the roof is [0-9.]+ us'
check "explain: the heuristic's" has "^# +[0-9.]+ .* the heuristic's$"
# Whatever the times are: one of the heuristic's candidates lays no weights out.
check "explain: refusals" has "^# refused: the heuristic's, .*: it lays weights out in another way"
try explain linear:1x64x65 --stage tune
check "explain: another shape was not searched" has '^# not searched'
PG_THREADS=3 try explain linear:1x64x64 --stage tune
check "explain: other threads were not searched" has '^# not searched'

# Ctrl-C, once the database has the second kernel; then on from there.
PG_BEAM=16 "$picograd" bench --tune matmul:64 -r 1 >"$work/out" 2>"$work/err" </dev/null &
search=$!
for _ in $(seq 600); do
    "$picograd" cache info 2>/dev/null | grep -q '2 tuned' && break
    sleep 0.1
done
kill -INT $search
wait $search
check "Ctrl-C: status" is $? 130
check "Ctrl-C: says so" says 'stopped; the same command goes on from here'
try explain matmul:64 --stage tune
check "Ctrl-C: so far" has '^# [0-9.]+ s of search so far'
PG_BEAM=1 try bench --tune matmul:64 -r 1
check "taken up: status" is $status 0
check "taken up: not known before" has '^reduce_64x64 .* (cc|gcc|clang|clang-19)$'
try explain matmul:64 --stage tune
check "taken up: ended" has '^# [0-9.]+ s of search; side'

# A damaged file: one line, then none.
head -c 3000 /dev/zero | tr '\0' 'x' | dd of="$database" conv=notrunc bs=1 seek=10 2>/dev/null
try bench softmax:16 -r 1
check "damaged: status" is $status 0
check "damaged: one line" is "$(lines "$work/err")" 1
check "damaged: says so" says 'is damaged; tuned schedules start anew'
try bench softmax:16 -r 1
check "damaged: once" is "$(lines "$work/err")" 0
PG_BEAM=1 try bench --tune softmax:16 -r 1
check "damaged: made anew" is $status 0
try cache clear
check "cache clear" has '^removed the tuned schedules$'
check "cache clear: gone" test ! -e "$database"
try cache info
check "cache info: none" is "$(lines "$work/out")" 1

echo "$passed passed, $failed failed"
[ $failed = 0 ]
