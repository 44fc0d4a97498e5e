#!/bin/bash
# table_test.sh - the arithmetic and the layout of the benchmark's table: known results in, and the
# text and the picture's script that belong to them.
# In: tests/bench/golden/results.json, bench/table.py.  Out: a line for each failure, the counts.
set -u
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "$0")/../.." || exit 1
command -v python3 >/dev/null || { echo "no python3, with which the benchmark runs" && exit 77; }
passed=0 failed=0
is() { # name, got, wanted
    if [ "$2" = "$3" ]; then passed=$((passed + 1)) && return; fi
    failed=$((failed + 1))
    printf 'FAILED %s: got\n%s\nwanted\n%s\n' "$1" "$2" "$3"
}
value() { python3 -c "import sys; sys.path.insert(0, 'bench'); import table, bench; print($1)"; }

is "a median and its spread" "$(value 'table.summary([8.0, 12.0, 10.0])')" \
    "{'median': 10.0, 'spread': 0.4, 'rounds': [8.0, 12.0, 10.0]}"
is "more is better" "$(value 'table.ratio(30, 20, False)')" 1.5
is "less is better" "$(value 'table.ratio(30, 20, True) * 3')" 2.0
roofs='{"peak": 2e11, "bound": 2e11, "tile": None, "levels": [{"name": "L1", "bytes": 1000, "rate": 4e11},
    {"name": "memory", "bytes": None, "rate": 2e10}]}'
is "many operations: the peak" "$(value "table.roof_seconds($roofs, 4e11, 100)")" "(2.0, 'L1')"
is "many bytes: memory" "$(value "table.roof_seconds($roofs, 0, 4e10)")" "(2.0, 'memory')"
is "what fits a cache: its rate" "$(value "table.roof_seconds($roofs, 0, 800)")" "(2e-09, 'L1')"
faster=${roofs//4e11/5e11}
is "the best of each roof" "$(value "table.best_roofs([$roofs, ${faster//2e11/1e11}])")" \
    "{'peak': 200000000000.0, 'bound': 200000000000.0, 'tile': None, 'levels': [{'name': 'L1', 'bytes': 1000, 'rate': 500000000000.0}, {'name': 'memory', 'bytes': None, 'rate': 20000000000.0}]}"
is "a mean of ratios is geometric" "$(value 'table.mean_ratios({"rows": [
    {"sides": {"torch": 1}, "slow": {}, "ratios": {"torch": 4.0}},
    {"sides": {"torch": 1}, "slow": {}, "ratios": {"torch": 0.25}}]})')" "{'torch': 1.0}"
is "within 2 %" "$(value '[table.ratio_text(x) for x in (0.0123, 0.97, 0.981, 1.019, 1.03, 123.4)]')" \
    "['0.012', '0.97', '0.98=', '1.02=', '1.03', '123']"
is "a quote in a name" "$(value 'table.quoted("CPU '"'"'x'"'"'")')" "'CPU ''x'''"
question='{"row": "linear:1x2x3:q8_0", "model": None}'
is "no packed weights at OpenBLAS" "$(value "bench.may_have('openblas', $question)")" False
is "bf16 at PyTorch" "$(value "bench.may_have('torch', ${question/q8_0/bf16})")" True
is "a model at OpenBLAS" "$(value 'bench.may_have("openblas", {"row": "decode:8", "model": "F32"})')" \
    False
is "the table" "$(python3 bench/table.py tests/bench/golden/results.json)" \
    "$(cat tests/bench/golden/table.txt)"
is "the picture's script" "$(python3 bench/table.py --plot tests/bench/golden/results.json)" \
    "$(cat tests/bench/golden/plot.txt)"

echo "$passed passed, $failed failed, 0 skipped"
exit $((failed != 0))
