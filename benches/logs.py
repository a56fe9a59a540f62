#!/usr/bin/env python3
"""Measures the logs: reading 1 GB of them, the size of the indexes, and how fast output is taken.

    benches/logs.py target/release/mainstay [another mainstay]

With two programs both take the same floods by turns, and the ratio of their medians is printed:
the one way to see what the index costs. Works in a temporary folder and leaves nothing behind.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

MODULES = 20
TOTAL = int(os.environ.get("LOGS_BYTES", 1 << 30))

WRITER = r"""
import os, sys, time
mode, size = sys.argv[1], int(sys.argv[2])
line = "2026-11-20T12:00:00Z INFO request %d of customer %d was served in %d ms by worker-3\n"
block = "".join(line % (n, n * 7919 % 99991, n % 251) for n in range(1000)).encode()
done = 0
open("began", "w").close()
while done < size:
    if mode == "lines":
        for one in block.splitlines(True):
            done += os.write(1, one)
            if done >= size:
                break
    else:
        view = memoryview(block)
        while view:
            count = os.write(1, view)
            done += count
            view = view[count:]
os.write(1, b"ERROR the last line\n")
open("done-" + os.environ["MAINSTAY_MODULE"], "w").close()
time.sleep(3600)
"""


class System:
    """A running mainstay in a folder of its own."""

    def __init__(self, program, modules, mode, size):
        self.program = os.path.abspath(program)
        self.folder = tempfile.TemporaryDirectory()
        self.dir = pathlib.Path(self.folder.name)
        (self.dir / "config").mkdir()
        (self.dir / "writer.py").write_text(WRITER)
        text = f'[mainstay]\nname = "logs"\nstate_dir = "{self.dir}/state"\n'
        text += f'runtime_dir = "{self.dir}/run"\n[logs]\nmax_bytes = "1100MiB"\n'
        for number in range(modules):
            command = [sys.executable, "writer.py", mode, str(size)]
            text += f"[module.m{number:02}]\ncommand = {command}\n".replace("'", '"')
        (self.dir / "config" / "mainstay.toml").write_text(text)
        self.names = [f"m{number:02}" for number in range(modules)]
        self.run("up", "-d")

    def run(self, *words):
        command = [self.program, *words, "--config", str(self.dir / "config")]
        return subprocess.run(command, cwd=self.dir, capture_output=True, check=True).stdout

    def wait(self):
        """Seconds from the first byte of the last module until all is in the logs."""
        for name in self.names:
            while not (self.dir / f"done-{name}").exists():
                time.sleep(0.01)
        while any(not self.tail(name).endswith(b"last line\n") for name in self.names):
            time.sleep(0.005)
        logs = (self.dir / "state" / "logs").glob("m*.log")
        ended = max(log.stat().st_mtime_ns for log in logs)
        return (ended - (self.dir / "began").stat().st_mtime_ns) / 1e9

    def tail(self, name):
        with open(self.dir / "state" / "logs" / f"{name}.log", "rb") as log:
            log.seek(-min(64, os.fstat(log.fileno()).st_size), os.SEEK_END)
            return log.read()

    def bytes(self, end):
        return sum(path.stat().st_size for path in (self.dir / "state" / "logs").glob(f"m*{end}"))

    def end(self):
        self.run("down")
        self.folder.cleanup()


def milliseconds(system, *words, rounds=7):
    times = []
    for _ in range(rounds):
        began = time.monotonic()
        lines = system.run(*words).count(b"\n")
        times.append(1000 * (time.monotonic() - began))
    return statistics.median(times), lines


def reading(program):
    system = System(program, MODULES, "blocks", TOTAL // MODULES)
    system.wait()
    time.sleep(1.5)
    log, index = system.bytes(".log"), system.bytes(".idx")
    print(f"{MODULES} modules, {log >> 20} MiB of logs, indexes {100 * index / log:.3f} %")
    for words in [
        ("logs", "-n", "200"),
        ("logs", "m03", "-n", "200"),
        ("logs", "--since", "1h", "--grep", "ERROR"),
        ("logs", "--since", "1h", "--grep", "served in 2[0-4]9 ms by worker-4"),
        ("logs", "--since", "1h", "--grep", "x"),
        ("logs", "m03", "--run", "last", "--grep", "ERROR"),
    ]:
        took, lines = milliseconds(system, *words)
        print(f"  {' '.join(words):62} {took:8.1f} ms  {lines} lines")
    system.run("down")
    took, lines = milliseconds(system, "logs", "-n", "200")
    print(f"  {'logs -n 200, while nothing runs':62} {took:8.1f} ms  {lines} lines")
    system.folder.cleanup()


def flood(program, mode, size):
    system = System(program, 1, mode, size)
    took = system.wait()
    time.sleep(1.5)
    log, index = system.bytes(".log"), system.bytes(".idx")
    system.end()
    return log / took / 1e6, 100 * index / log


def main():
    programs = sys.argv[1:]
    reading(programs[0])
    for mode, size in [("blocks", TOTAL), ("lines", TOTAL // 8)]:
        results = {program: [] for program in programs}
        for _ in range(5):
            for program in programs:
                results[program].append(flood(program, mode, size))
        medians = []
        for program in programs:
            speed = statistics.median(speed for speed, _ in results[program])
            share = max(share for _, share in results[program])
            medians.append(speed)
            print(f"flood of {size >> 20} MiB by {mode}: {speed:7.1f} MB/s, index {share:.3f} %, {program}")
        if len(medians) == 2:
            print(f"  ratio {medians[0] / medians[1]:.3f}")


main()
