#!/usr/bin/env python3
"""bench.py [-t THREADS] [-r ROUNDS] [-o FOLDER] [--all] [--sides NAME,...] [ROW...] - picograd
beside its peers; `make bench` calls it.

In:  build/picograd, the SmolLM2 file, the peers that peers.sh can install.
Out: a table with ratios on standard output; the same in FOLDER (build) as bench.txt, bench.json
     and, by gnuplot, bench.png.

Rows are those that `picograd bench --list` names as the few, with --all all of them. A row's rounds
run one after the other, and in each every side runs once, in a process of its own: what disturbs
the machine for a while disturbs all sides. A peer's process stays, since loading and compiling take
it long; it sleeps while the others run. A peer that takes too long for a row is stopped, and the
table says so. Interrupted, the rows so far are written.
"""
import argparse
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time

import table

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = {"few": ["Q4_1", "F32"], "all": ["Q4_1", "Q8_0", "BF16", "F32"]}
MODEL = "SmolLM2-135M-Instruct"
PATIENCE = {"few": 60, "all": 600}  # seconds of a peer for one row's set-up
LONG = {"few": 10, "all": 60}  # seconds of a run that is not repeated in further rounds
# In the mean a row takes this long at each side: set-up and, of each round, the run.
SECONDS = {"picograd": (0, 1.5), "llama": (3, 3), "openblas": (0.5, 0.7), "torch": (2, 0.8),
           "inductor": (7, 0.8), "tinygrad": (8, 1.5), "beam": (90, 1.5)}


def note(text):
    print(f"note: {text}", file=sys.stderr, flush=True)


def cache_folder():
    shared = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    return os.environ.get("PG_CACHE", os.path.join(shared, "picograd"))


class TooSlow(Exception):
    pass


class Peer:
    """A process that answers questions, a line each."""

    def __init__(self, name, python, threads):
        self.name, self.process = name, None
        self.command = [python, os.path.join(HERE, "peers.py"), name, "-t", str(threads)]

    def start(self):
        # glibc hands large results back to the system at once, and gets new pages for the next.
        quick = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env={**os.environ, **quick}, start_new_session=True)

    def stop(self):
        if self.process:
            try:
                os.killpg(self.process.pid, 9)  # what it started, too; its session is its own
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        self.process = None

    def ask(self, question, fresh, patience):
        if fresh or not self.process:
            self.stop()
            self.start()
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                if not selector.select(patience):
                    self.stop()
                    raise TooSlow(f"> {patience} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self.stop()
            return {"missing": "its process ended"}
        return json.loads(line)


class Bench:
    def __init__(self, options):
        self.options, self.cache = options, cache_folder()
        self.picograd = options.picograd
        self.python = os.path.join(self.cache, "peers", "venv", "bin", "python")
        self.size = "all" if options.all else "few"
        self.files, self.peers, self.roofs = {}, [], []
        self.result = {"cpu": cpu_name(), "threads": options.threads,
                       "precision": options.precision, "load": os.getloadavg()[0],
                       "rounds": options.rounds, "roofs": None, "versions": {}, "notes": [],
                       "rows": []}

    # ---- what there is --------------------------------------------------------------------------
    def run_picograd(self, *words):
        command = [self.picograd, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().split("\n")[-1])
        return [json.loads(line) for line in done.stdout.splitlines()]

    def rows(self):
        listed = self.run_picograd("bench", "--list", "--json", "-")
        units = {row["row"].split(":")[0]: row for row in listed}
        names = self.options.row or [row["row"] for row in listed
                                     if row["few"] or self.options.all]
        rows = []
        for name in names:
            kind = units.get(name.split(":")[0])
            if not kind:
                sys.exit(f"bench.py: no row {name}. Try: picograd bench --list")
            types = TYPES[self.size] if kind["model"] else [None]
            rows += [{"row": name, "model": model, "unit": kind["unit"], "less": kind["less"]}
                     for model in types]
        return rows

    def prepare_models(self, types):
        """The model in each type, made from the packed one by way of F32."""
        packed = os.path.join(self.cache, "models", f"{MODEL}.Q4_1.gguf")
        if not os.path.exists(packed):
            subprocess.run([self.picograd, "models", "pull", "smollm2"], check=False)
        if not os.path.exists(packed):
            note(f"no rows of models: {packed} is not there; run picograd models pull smollm2")
            return
        folder = os.path.join(self.cache, "bench")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.files = {"Q4_1": packed}
        for name in ["F32", *(name for name in types if name not in ("F32", "Q4_1"))]:
            path = os.path.join(folder, f"{MODEL}.{name}.gguf")
            source = self.files["F32"] if name == "Q8_0" else packed
            try:
                if not os.path.exists(path):
                    self.run_picograd("convert", source, path, "--type", name.lower())
                self.files[name] = path
            except RuntimeError as reason:
                note(f"no {name} rows: {reason}")

    def prepare_peers(self):
        wanted = self.options.sides.split(",") if self.options.sides else None
        for name in table.ORDER[1:]:
            needs = {"inductor": "torch", "beam": "tinygrad"}.get(name, name)
            there = os.path.exists(os.path.join(self.cache, "peers", "venv", f"installed-{needs}"))
            chosen = name in wanted if wanted else name != "beam" or self.options.all
            if there and chosen:
                self.peers.append(Peer(name, self.python, self.options.threads))

    def estimate(self, rows):
        sides = ["picograd", *(peer.name for peer in self.peers)]
        seconds = sum(SECONDS[side][0] + self.options.rounds * SECONDS[side][1]
                      for row in rows for side in sides if self.may_have(side, row))
        print(f"{len(rows)} rows, {len(sides)} sides, {self.options.rounds} rounds: about "
              f"{seconds / 60:.0f} minutes; more where a peer compiles a row for the first time",
              file=sys.stderr, flush=True)

    def may_have(self, side, row):
        """tinygrad takes minutes for the prompts of models: only where every row is asked for."""
        slow = side == "tinygrad" and row["model"] and not row["row"].startswith("decode:")
        return may_have(side, row) and not (slow and self.size == "few")

    # ---- measuring ------------------------------------------------------------------------------
    def ask_picograd(self, row):
        model = ["-m", self.files[row["model"]]] if row["model"] else []
        return self.run_picograd("bench", row["row"], "--json", "-", "-r", "1", "--precision",
                                 self.options.precision, "-t", str(self.options.threads),
                                 *model)[0]

    def measure_roofs(self):
        self.roofs += self.run_picograd("roofline", "--json", "-", "--precision",
                                        self.options.precision, "-t", str(self.options.threads))
        self.result["roofs"] = table.best_roofs(self.roofs)

    def measure(self, row):
        """Rounds of every side; of a peer the seconds of a step, or the value itself."""
        own, others, amounts = [], {}, []
        slow = {}
        question = {"row": row["row"], "model": row["model"], "file": self.files.get(row["model"])}
        gone = set()
        for _ in range(self.options.rounds):
            answer = self.ask_picograd(row)
            own.append(answer)
            amounts.append(answer["median"] * answer.get("step_seconds", 0))
            for peer in self.peers:
                if peer.name in gone or not self.may_have(peer.name, row):
                    continue
                try:
                    told = peer.ask(question, row["less"], PATIENCE[self.size])
                except TooSlow as reason:
                    told, slow[peer.name] = {"missing": None}, str(reason)
                if "missing" in told:
                    gone.add(peer.name)
                    self.tell(peer.name, row, told["missing"])
                    continue
                self.result["versions"][peer.name] = told["version"]
                others.setdefault(peer.name, []).append(told)
                if told["took"] > LONG[self.size]:
                    gone.add(peer.name)
        return own, others, amounts[0], slow

    def tell(self, name, row, reason):
        if reason and not reason.startswith(("PyTorch has", "OpenBLAS has", "llama.cpp has",
                                             "tinygrad has", "tinygrad is")):
            self.result["notes"].append(f"{name}, {table.row_name(row)}: {reason}")
            note(self.result["notes"][-1])

    def add(self, row):
        own, others, amount, slow = self.measure(row)
        self.result["versions"]["picograd"] = own[0]["version"]
        sides = {"picograd": table.summary([answer["median"] for answer in own])}
        for name, answers in others.items():
            values = [answer["value"] if "value" in answer else amount / answer["step_seconds"]
                      for answer in answers]
            sides[name] = table.summary(values)
        best = sides["picograd"]["median"]
        ratios = {name: table.ratio(best, side["median"], row["less"])
                  for name, side in sides.items() if name != "picograd" and side["median"] > 0}
        entry = {**row, "sides": sides, "ratios": ratios, "slow": slow}
        if amount:
            entry.update(operations=own[0]["operations"], bytes=own[0]["bytes"],
                         step_seconds=amount / best)
        self.result["rows"].append(entry)

    def finish(self):
        """Shares of the roofs, which are the best of the whole run; then everything is written."""
        for row in self.result["rows"]:
            if "step_seconds" in row and self.result["roofs"]:
                least, level = table.roof_seconds(self.result["roofs"], row["operations"],
                                                  row["bytes"])
                roofs = self.result["roofs"]
                if row["operations"] / roofs["bound"] >= least:
                    level = "AMX" if roofs["bound"] > roofs["peak"] else "FMA"
                row.update(share=least / row["step_seconds"], level=level)
        folder = self.options.output
        os.makedirs(folder, exist_ok=True)
        write(os.path.join(folder, "bench.json"), json.dumps(self.result, indent=1) + "\n")
        write(os.path.join(folder, "bench.txt"), table.text(self.result) + "\n")

    def run(self):
        if not os.access(self.picograd, os.X_OK):
            sys.exit(f"bench.py: {self.picograd} is not there; run make")
        rows = self.rows()
        types = [row["model"] for row in rows if row["model"]]
        if types:
            self.prepare_models(types)
            rows = [row for row in rows if not row["model"] or row["model"] in self.files]
        self.prepare_peers()
        self.estimate(rows)
        begin = time.monotonic()
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)
        try:
            for i, row in enumerate(rows):
                if i % 8 == 0:
                    self.measure_roofs()
                left = (time.monotonic() - begin) / i * (len(rows) - i) / 60 if i else None
                print(f"row {i + 1} of {len(rows)}: {table.row_name(row)}"
                      + (f", about {left:.0f} minutes left" if left else ""), file=sys.stderr,
                      flush=True)
                try:
                    self.add(row)
                except RuntimeError as reason:
                    self.result["notes"].append(f"picograd, {table.row_name(row)}: {reason}")
                self.finish()
        except KeyboardInterrupt:
            note("interrupted; these are the rows so far")
        finally:
            for peer in self.peers:
                peer.stop()
        if not self.result["rows"]:
            sys.exit("nothing was measured; the notes above say why")
        print(table.text(self.result))
        picture = draw(self.result, self.options.output)
        print(f"written to {self.options.output}: bench.txt, bench.json{picture}")


def draw(result, folder):
    script = table.plot(result).replace("FORM", "pngcairo", 1)
    if not script:
        return ""
    if not shutil.which("gnuplot"):
        note("no picture: gnuplot is not installed; as root: apt-get install gnuplot-nox")
        return ""
    done = subprocess.run(["gnuplot"], input=script.encode(), capture_output=True, check=False)
    if done.returncode or not done.stdout:
        note(f"no picture: gnuplot failed: {done.stderr.decode().strip()[:200]}")
        return ""
    write(os.path.join(folder, "bench.png"), done.stdout)
    return ", bench.png"


def may_have(side, row):
    """What is known beforehand, so that nothing is loaded in vain."""
    name, *rest = row["row"].split(":")
    kind, packed = name, len(rest) > 1
    if side == "picograd":
        return True
    if side == "llama":
        return kind in ("prefill", "decode", "memory")
    if side == "openblas":
        return kind in ("matmul", "linear") and not packed
    if side in ("torch", "inductor"):
        if row["model"]:
            kinds = ("prefill", "decode") + (("cold", "warm") if side == "inductor" else ())
            return kind in kinds and row["model"] in ("F32", "BF16")
        return not packed or rest[1] == "bf16"
    kinds = ("prefill", "decode") + (("cold", "warm") if side == "tinygrad" else ())
    return kind in kinds if row["model"] else not packed


def write(path, content):
    partial = f"{path}.{os.getpid()}"
    with open(partial, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    os.rename(partial, path)


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        pairs = [line.partition(":") for line in file]
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    return "{} (family {}, model {})".format(
        *(facts.get(name, "unknown") for name in ("model name", "cpu family", "model")))


def main():
    parser = argparse.ArgumentParser(description="picograd beside its peers")
    parser.add_argument("row", nargs="*")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", default="build")
    parser.add_argument("--picograd", default="build/picograd", help="the command")
    parser.add_argument("--precision", default="fp32", help="picograd's: fp32 or tf32")
    parser.add_argument("--all", action="store_true", help="every row and every peer")
    parser.add_argument("--sides", help="only these peers: " + ",".join(table.ORDER[1:]))
    Bench(parser.parse_args()).run()


if __name__ == "__main__":
    main()
