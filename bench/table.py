#!/usr/bin/env python3
"""table.py LINES OUT.json THREADS LOAD - the benchmark's table, for run.sh.

In:  LINES, one measurement a line: who, model and a JSON object, between tabs. The object has row,
     median, unit and, if it likes, version and roof (the machine's own best, in the same unit).
Out: a table of medians over the rounds. A peer's cell ends with picograd's ratio to it: above 1
     picograd is ahead, and = stands for within 2 %. Everything goes to OUT.json, the rounds too.
"""
import json
import os
import statistics
import sys

ORDER = ["picograd", "eager", "llama", "openblas", "torch"]
EQUAL = 0.02


def cpu_name():
    with open("/proc/cpuinfo") as file:
        pairs = [line.partition(":") for line in file]
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    return "{} (family {}, model {})".format(
        *(facts.get(name, "unknown") for name in ("model name", "cpu family", "model")))


def read(path):
    """{(row, model): {who: [measurement of each round]}} in the order of the file."""
    rows = {}
    if not os.path.exists(path):
        return rows
    with open(path) as file:
        for line in file:
            who, model, text = line.rstrip("\n").split("\t", 2)
            try:
                entry = json.loads(text)
                entry["median"] = float(entry["median"])
                key = (entry["row"], model)
            except (ValueError, KeyError, TypeError):
                print(f"note: {who} answered no measurement: {text[:80]}", file=sys.stderr)
                continue
            rows.setdefault(key, {}).setdefault(who, []).append(entry)
    return rows


def summary(entries):
    values = [entry["median"] for entry in entries]
    median = statistics.median(values)
    result = {"median": median, "spread": (max(values) - min(values)) / median if median else 0.0,
              "rounds": values}
    for name in ("version", "roof"):
        if name in entries[0]:
            result[name] = entries[0][name]
    return result


def ratio_text(ratio):
    return f"{ratio:.2f}" + ("=" if abs(ratio - 1) <= EQUAL else "")


def cell(who, sides):
    if who not in sides:
        return "-"
    side = sides[who]
    text = f"{side['median']:.1f} ±{100 * side['spread'] / 2:.0f}%"
    if who == "picograd" and side.get("roof"):
        text += f" ({100 * side['median'] / side['roof']:.0f}% of roof)"
    if who != "picograd" and "picograd" in sides and side["median"]:
        text += f" ({ratio_text(sides['picograd']['median'] / side['median'])})"
    return text


def show(table):
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def main(lines, output, threads, load):
    rows = read(lines)
    columns = [who for who in ORDER if any(who in sides for sides in rows.values())]
    table = [["row", "model", "unit", *columns]]
    result = {"cpu": cpu_name(), "threads": int(threads), "load": float(load), "rows": []}
    versions = {}
    for (row, model), measured in rows.items():
        sides = {who: summary(entries) for who, entries in measured.items()}
        unit = next(iter(measured.values()))[0].get("unit", "?")
        table.append([row, model, unit, *(cell(who, sides) for who in columns)])
        versions.update({who: side["version"] for who, side in sides.items() if "version" in side})
        ratios = {who: sides["picograd"]["median"] / side["median"] for who, side in sides.items()
                  if who != "picograd" and "picograd" in sides and side["median"]}
        result["rows"].append({"row": row, "model": model, "unit": unit, "sides": sides,
                               "ratios": ratios})
    print(f"{result['cpu']}, {threads} threads, load at the start {load}"
          + (" (not quiet: read with care)" if float(load) > 0.5 else ""))
    if not rows:
        print("nothing was measured; the notes above say why")
        return 1
    show(table)
    print("± half the distance of the best round from the worst; (picograd / peer), = within 2 %")
    for who, version in versions.items():
        print(f"{who}: {version}")
    with open(output, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(f"written to {output}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: table.py LINES OUT.json THREADS LOAD")
    sys.exit(main(*sys.argv[1:]))
