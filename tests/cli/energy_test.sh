#!/bin/bash
# energy_test.sh - the energy of a run reaches its metrics: over /sys/class, where a name space of our
# own may mount something, lies a counter made here, which goes on once while tokens are generated.
set -u
export LC_ALL=C.UTF-8
picograd=$(realpath "${PG_BUILD:-build}")/picograd
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
unshare -rm mount -t tmpfs none /sys/class 2>/dev/null || { echo "no tmpfs can be mounted here" && exit 77; }

cat >"$work/run" <<'END'
mount -t tmpfs none /sys/class && mkdir -p /sys/class/powercap/intel-rapl:0 && cd "$_" || exit
echo package-0 >name
echo 262143328850 >max_energy_range_uj
echo 5000000 >energy_uj
echo 8000000 >later
"$1" generate -m random -p abc -c 64 -n 40 --ids --metrics "$2" 2>/dev/null | {
    read -r -n 1  # of the first token
    mv later energy_uj
    cat >/dev/null
}
END
unshare -rm bash "$work/run" "$picograd" "$work/metrics.json"
if grep -qF '"energy_j": 3.000,' "$work/metrics.json" &&
    grep -qF '"tokens_per_j": 13.3333,' "$work/metrics.json"; then
    echo "40 tokens for 3 joules"
else
    cat "$work/metrics.json"
    exit 1
fi
