#!/usr/bin/env python3
"""What an edit of a running system costs: from the save to what applies it, and the processor time.

    cargo build --release && benches/reload.py [--modules 100] [--edits 200]

Prints the rows of docs/PERFORMANCE.md. MAINSTAY names another binary than target/release/mainstay.
Needs Python 3.9 and Linux; starts and stops a system of its own in a temporary folder.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAINSTAY = os.environ.get("MAINSTAY", str(ROOT / "target/release/mainstay"))


class Connection:
    """A connection to the control socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.rest = b""
        self.call("hello", {"protocol": 1, "client": "bench"})

    def line(self):
        while b"\n" not in self.rest:
            got = self.socket.recv(1 << 20)
            if not got:
                raise SystemExit("the connection is closed")
            self.rest += got
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def call(self, method, params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply = self.line()
            if reply.get("id") == 1:
                if "error" in reply:
                    raise SystemExit(reply["error"])
                return reply["result"]

    def event(self, kinds):
        while True:
            params = self.line().get("params", {})
            event = params.get("event", params)
            if event.get("kind") in kinds:
                return event


def cpu_ms(pids):
    """Processor time of these processes, with that of threads that ended."""
    # The clock of another process: see clock_getcpuclockid(3).
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids) / 1e6


def text(folder, modules, edit):
    lines = ["[mainstay]", 'name = "bench"', 'reload_watch = "0s"']
    lines += [f'state_dir = "{folder}/state"', f'runtime_dir = "{folder}/run"']
    for number in range(modules):
        lines += [f"[module.m{number}]", 'command = ["sleep", "100000"]']
        lines += [f'shutdown_timeout = "{10 + (edit if number == 7 else 0)}s"']
    return "\n".join(lines) + "\n"


def save(path, content):
    fresh = path.with_suffix(".new")
    fresh.write_text(content)
    os.rename(fresh, path)
    return time.monotonic()


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def measure(folder, args):
    config = folder / "config"
    config.mkdir()
    path = config / "mainstay.toml"
    save(path, text(folder, args.modules, 0))
    up = [MAINSTAY, "up", "-d", "--config", str(config)]
    subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
    try:
        client = Connection(folder / "run/control.sock")
        listener = Connection(folder / "run/control.sock")
        status = client.call("system.status", {})
        pids = [status["pid"], status["holder_pid"]]
        listener.call("events.subscribe", {"kinds": ["config.applied", "config.committed"]})
        took = []
        for edit in range(1, args.edits + 1):
            saved = save(path, text(folder, args.modules, 1 + edit % 9))
            listener.event(["config.applied"])
            took.append((time.monotonic() - saved) * 1000)
            listener.event(["config.committed"])
        time.sleep(3)
        before, begun = cpu_ms(pids), time.monotonic()
        time.sleep(args.idle)
        idle = (cpu_ms(pids) - before) / (time.monotonic() - begun)
        same = text(folder, args.modules, 1 + args.edits % 9)
        before, begun = cpu_ms(pids), time.monotonic()
        for _ in range(args.noops):
            save(path, same)
            time.sleep(0.25)
        spent = cpu_ms(pids) - before - idle * (time.monotonic() - begun)
        modules = client.call("module.list", {})
        modules = modules if isinstance(modules, list) else modules["modules"]
        again = sum(it["generation"] - 1 for it in modules if it["module"].startswith("m"))
    finally:
        down = [MAINSTAY, "down", "--config", str(config)]
        subprocess.run(down, check=True, stdout=subprocess.DEVNULL)
    median, p99 = percentile(took, 0.5), percentile(took, 0.99)
    print(f"| edit to applied, {args.modules} modules, p50 / p99 | {median:.1f} / {p99:.1f} ms |")
    print(f"| edit that changes nothing, processor time | {spent / args.noops:.2f} ms |")
    print(f"| idle before that, with samples | {idle * 1000:.0f} µs a second |")
    print(f"| modules restarted by all of it | {again} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modules", type=int, default=100)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--noops", type=int, default=40)
    parser.add_argument("--idle", type=float, default=20)
    with tempfile.TemporaryDirectory() as folder:
        measure(pathlib.Path(folder), parser.parse_args())


if __name__ == "__main__":
    main()
