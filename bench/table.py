#!/usr/bin/env python3
"""table.py RESULTS.json - the benchmark's table, from what bench.py wrote; with --plot a gnuplot
script of its picture instead.

A row's figures are medians over the rounds. A peer's cell ends with how many times as fast picograd
is: above 1 picograd is ahead, = stands for within 2 %. A row's roof is the least time that the
machine's peak and its bandwidth allow; picograd's cell ends with its share of it.
"""
import json
import math
import statistics
import sys

ORDER = ["picograd", "llama", "openblas", "torch", "inductor", "tinygrad", "beam"]
NAMES = {"llama": "llama.cpp", "openblas": "OpenBLAS", "torch": "PyTorch",
         "inductor": "torch.compile", "beam": "tinygrad BEAM=2"}
COLOURS = {"llama": "#d1495b", "openblas": "#00798c", "torch": "#edae49", "inductor": "#66618e",
           "tinygrad": "#7fb069", "beam": "#30638e"}
EQUAL = 0.02


def summary(values):
    """Median, and the distance of the highest from the lowest as a share of it."""
    median = statistics.median(values)
    return {"median": median, "spread": (max(values) - min(values)) / median if median else 0.0,
            "rounds": values}


def ratio(own, other, less):
    """How many times as good as `other` `own` is."""
    return other / own if less else own / other


def roof_seconds(roofs, operations, size):
    """The least time for so many operations on so many bytes, and the level that these fit."""
    level = next(level for level in roofs["levels"]
                 if level["bytes"] is None or size <= level["bytes"])
    return max(operations / roofs["bound"], size / level["rate"]), level["name"]


def best_roofs(measured):
    """The best that was seen of each roof."""
    best = json.loads(json.dumps(measured[0]))
    for name in ("peak", "bound", "tile"):
        best[name] = max((roofs[name] or 0) for roofs in measured) or None
    for i, level in enumerate(best["levels"]):
        level["rate"] = max(roofs["levels"][i]["rate"] for roofs in measured)
    return best


def ratio_text(value):
    digits = 3 if value < 0.0995 else 2 if value < 99.5 else 0
    return f"{value:.{digits}f}" + ("=" if abs(value - 1) <= EQUAL else "")


def number_text(value):
    return f"{value:.{0 if value >= 999.5 else 1 if value >= 9.95 else 2}f}"


def cell(who, row):
    side = row["sides"].get(who)
    if not side:
        return row["slow"].get(who, "-")
    text = f"{number_text(side['median'])} ±{100 * side['spread'] / 2:.0f}%"
    if who == "picograd":
        return text + (f" [{100 * row['share']:.0f}% {row['level']}]" if "share" in row else "")
    return text + (f" ({ratio_text(row['ratios'][who])})" if who in row["ratios"] else "")


def columns(result):
    return [who for who in ORDER if any(who in row["sides"] or who in row["slow"]
                                        for row in result["rows"])]


def row_name(row):
    return f"{row['row']} {row['model']}" if row["model"] else row["row"]


def mean_ratios(result):
    """Geometric means."""
    means = {}
    for who in columns(result):
        logs = [math.log(row["ratios"][who]) for row in result["rows"] if who in row["ratios"]]
        if logs:
            means[who] = math.exp(statistics.fmean(logs))
    return means


def roof_lines(roofs):
    lines = [f"multiply-adds {1e-9 * roofs['peak']:.0f} GFLOP/s"]
    if roofs["tile"]:
        lines.append(f"AMX's tiles of bf16 {1e-9 * roofs['tile']:.0f} GFLOP/s")
    for level in roofs["levels"]:
        lines.append(f"{level['name']} {1e-9 * level['rate']:.0f} GB/s, ridge at "
                     f"{roofs['bound'] / level['rate']:.1f} operations a byte")
    return "roofs: " + "; ".join(lines)


def text(result):
    who = columns(result)
    table = [["row", "unit", *(NAMES.get(name, name) for name in who)]]
    for row in result["rows"]:
        unit = row["unit"] + (", less is better" if row["less"] else "")
        table.append([row_name(row), unit, *(cell(name, row) for name in who)])
    means = mean_ratios(result)
    table.append(["mean of the ratios", "", *(f"({ratio_text(means[name])})" if name in means
                                              else "" for name in who)])
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    quiet = "" if result["load"] <= 0.5 else " (not quiet: read with care)"
    lines = [f"{result['cpu']}, {result['threads']} threads, load at the start "
             f"{result['load']:.2f}{quiet}"]
    if result["roofs"]:
        lines.append(roof_lines(result["roofs"]))
    lines += ["  ".join(part.ljust(width) for part, width in zip(line, widths)).rstrip()
              for line in table]
    lines.append("± half the distance of the best round from the worst; [share of the row's roof, "
                 "and what bounds it]; (picograd / peer), = within 2 %")
    lines += [f"{NAMES.get(name, name)}: {result['versions'][name]}" for name in who
              if name in result["versions"]]
    lines += [f"note: {note}" for note in result["notes"]]
    return "\n".join(lines)


def plot(result):
    """Bars from 1, to the right where picograd is ahead; the ratio axis is logarithmic."""
    who = [name for name in columns(result) if name != "picograd"]
    blocks, labels, place, bars = {name: [] for name in who}, [], 0.0, 0
    for row in result["rows"]:
        here = [name for name in who if name in row["ratios"]]
        if not here:
            continue
        labels.append((place + (len(here) - 1) / 2, row_name(row)))
        for name in here:
            blocks[name].append((place, row["ratios"][name]))
            place += 1
            bars += 1
        place += 0.8
    shown = [name for name in who if blocks[name]]
    if not shown:
        return ""
    values = [value for name in shown for _, value in blocks[name]]
    low, high = min(0.5, min(values) / 1.5), max(2, max(values) * 2)
    height = 170 + 13 * bars + 11 * len(labels)
    script = [f"set terminal FORM size 1200,{height} font 'DejaVu Sans,11'",
              f"set title {quoted('picograd beside its peers: ' + result['cpu'])} noenhanced",
              "set logscale x", f"set xrange [{low:g}:{high:g}]", f"set yrange [{place:g}:-1]",
              "set xlabel 'times as fast as the peer, or as small; left of 1: picograd is behind'",
              "set xtics (" + ", ".join(f"'{tick:g}' {tick:g}" for tick in ticks(low, high)) + ")",
              "set grid xtics lt 1 lc rgb '#dddddd'", "set key outside top center horizontal",
              "set style fill solid 1 noborder", "set border 3", "set tics nomirror",
              "set arrow from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb '#222222' front",
              "set ytics (" + ", ".join(f"{quoted(name)} {at:g}" for at, name in labels)
              + ") noenhanced"]
    plots = []
    for name in shown:
        points = [f"{at:g} {value:g}" for at, value in blocks[name]]
        script += [f"${name} << EOD", *points, "EOD"]
        plots.append(f"${name} using 2:1:(1):2:($1-0.45):($1+0.45) with boxxyerror "
                     f"lc rgb '{COLOURS[name]}' title {quoted(NAMES.get(name, name))}")
    for ahead, side, shift in ((True, "left", 0.4), (False, "right", -0.4)):
        points = [f"{at:g} {value:g} {ratio_text(value)}" for name in shown
                  for at, value in blocks[name] if (value >= 1) == ahead]
        if points:
            script += [f"${side} << EOD", *points, "EOD"]
            plots.append(f"${side} using 2:1:3 with labels {side} offset {shift},0 "
                         "font ',9' noenhanced notitle")
    return "\n".join([*script, "plot " + ", ".join(plots)]) + "\n"


def ticks(low, high):
    steps = [mantissa * 10.0**power for power in range(-4, 6) for mantissa in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


def quoted(name):
    return "'" + name.replace("'", "''") + "'"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or len(sys.argv) == 3 and sys.argv[1] != "--plot":
        sys.exit("usage: table.py [--plot] RESULTS.json")
    with open(sys.argv[-1], encoding="utf-8") as file:
        read = json.load(file)
    print(plot(read) if len(sys.argv) == 3 else text(read))
