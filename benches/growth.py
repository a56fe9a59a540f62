#!/usr/bin/env python3
"""How start, restart, status, reload, samples and `why` grow with the number of modules.

    cargo build --release && chrt -r 1 benches/growth.py [--sizes 10,100,1000,5000] [--plot FILE]

Prints a table, and draws docs/growth.png if matplotlib is there. MAINSTAY names another binary than
target/release/mainstay. Starts and stops systems of its own in a temporary folder; Linux.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

from reload import MAINSTAY, ROOT, Connection, cpu_ms, save

# Rows: name, unit, and whether it is to grow with the modules or to stay as it is.
ROWS = {
    "start": ("up -d, until all run", "ms", True),
    "restart": ("one killed, until the next run is ready", "ms", False),
    "status": ("module.list, open connection", "ms", True),
    "command": ("mainstay status, whole command", "ms", True),
    "why": ("why of one module", "ms", False),
    "reload": ("edit of one key, until it is applied", "ms", True),
    "samples": ("processor time a second, at rest", "ms", True),
    "stop": ("down, until it returns", "ms", True),
}


def text(folder, modules, edit):
    lines = ["[mainstay]", 'name = "growth"', 'reload_watch = "0s"']
    lines += [f'state_dir = "{folder}/state"', f'runtime_dir = "{folder}/run"']
    lines += ["[recovery]", "max_attempts = 0", "concurrent_restarts = 0"]
    lines += ['backoff = { initial = "0s", floor = "0s" }']
    for number in range(modules):
        lines += [f"[module.m{number}]", 'command = ["sleep", "100000"]']
        lines += [f'shutdown_timeout = "{10 + (edit if number == 7 else 0)}s"']
    return "\n".join(lines) + "\n"


def timed(run, times):
    """The median of so many runs, in milliseconds."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        run()
        took.append((time.monotonic() - began) * 1000)
    return statistics.median(took)


def command(*words):
    subprocess.run([MAINSTAY, *words], check=True, stdout=subprocess.DEVNULL)


def restart(client, listener, name):
    os.kill(client.call("module.get", {"module": name})["pid"], signal.SIGKILL)
    listener.event(["module.ready"])


def measure(folder, modules, at_rest):
    config = folder / "config"
    config.mkdir(parents=True)
    path = config / "mainstay.toml"
    save(path, text(folder, modules, 0))
    there = ["--config", str(config)]
    found = {"start": timed(lambda: command("up", "-d", *there), 1)}
    try:
        client = Connection(folder / "run/control.sock")
        ready, applied, committed = (Connection(folder / "run/control.sock") for _ in range(3))
        status = client.call("system.status", {})
        assert status["modules"]["running"] >= modules, status["modules"]
        ready.call("events.subscribe", {"kinds": ["module.ready"]})
        applied.call("events.subscribe", {"kinds": ["config.applied"]})
        committed.call("events.subscribe", {"kinds": ["config.committed"]})
        time.sleep(3)
        found["restart"] = timed(lambda: restart(client, ready, "m5"), 15)
        found["status"] = timed(lambda: client.call("module.list", {"limit": 10_000}), 15)
        found["command"] = timed(lambda: command("status", *there), 7)
        found["why"] = timed(lambda: client.call("why", {"module": "m5"}), 15)
        edits = []
        for edit in range(1, 6):
            saved = save(path, text(folder, modules, edit))
            applied.event(["config.applied"])
            edits.append((time.monotonic() - saved) * 1000)
            committed.event(["config.committed"])
        found["reload"] = statistics.median(edits)
        time.sleep(2)
        pids = [status["pid"], status["holder_pid"]]
        before, begun = cpu_ms(pids), time.monotonic()
        time.sleep(at_rest)
        found["samples"] = (cpu_ms(pids) - before) / (time.monotonic() - begun)
    finally:
        found["stop"] = timed(lambda: command("down", *there), 1)
    return found


def plot(found, target):
    try:
        import matplotlib
    except ImportError:
        return print("no picture: matplotlib is not installed")
    import math
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, places = pyplot.subplots(2, 4, figsize=(13, 6), layout="constrained")
    for place, (row, (what, unit, grows)) in zip(places.flat, ROWS.items()):
        sizes = sorted(found)
        values = [found[size][row] for size in sizes]
        place.loglog(sizes, values, "o-", color="#1f5fa8")
        if grows:
            ends = sizes[-1], values[-1]
            line = [ends[1] * size * math.log(size) / (ends[0] * math.log(ends[0]))
                    for size in sizes]
            place.loglog(sizes, line, "--", color="#999999", label="n log n")
            place.legend(loc="upper left", frameon=False, fontsize=8)
        for size, value in zip(sizes, values):
            place.annotate(f"{value:.3g}", (size, value), textcoords="offset points",
                           xytext=(0, 6), ha="center", fontsize=8)
        place.set_title(f"{what}, {unit}", fontsize=9)
        place.margins(0.15)
        place.grid(True, which="major", alpha=0.3)
    figure.supxlabel("modules")
    figure.savefig(target, dpi=100, metadata={"Software": None})
    print(f"drawn: {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", default="10,100,1000,5000")
    parser.add_argument("--at-rest", type=float, default=30, help="seconds (%(default)s)")
    parser.add_argument("--plot", default=str(ROOT / "docs/growth.png"), help="%(default)s")
    asked = parser.parse_args()
    found = {}
    for size in (int(size) for size in asked.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found[size] = measure(pathlib.Path(folder), size, asked.at_rest)
        print(json.dumps({size: found[size]}), flush=True)
    print("| what | " + " | ".join(str(size) for size in found) + " |")
    print("|---|" + "---|" * len(found))
    for row, (what, unit, _) in ROWS.items():
        values = " | ".join(f"{one[row]:.3g} {unit}" for one in found.values())
        print(f"| {what} | {values} |")
    plot(found, asked.plot)


if __name__ == "__main__":
    main()
