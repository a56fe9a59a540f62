#!/usr/bin/env python3
"""How well limits hold and what health costs, seen from outside: prints one table.

    cargo build --release --workspace
    benches/limits.py                            # all rows, about five minutes, on a quiet machine
    benches/limits.py --only hogs,leak --programs target/debug

Owns the systems it starts, each in a folder of its own. Never measures by what mainstay reports,
except the time to the limit of a leak, which is the number under test.
"""
import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROWS = []
# Where cgroup2 is mounted.
CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def row(what, found, goal, reached):
    """One line of the table; `reached` is None where there is no goal."""
    word = {True: "yes", False: "**no**", None: "–"}[reached]
    ROWS.append(f"| {what} | {found} | {goal} | {word} |")
    print(ROWS[-1], flush=True)


def stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(") ", 1)[1].split()


def precise_seconds(pid):
    """CPU time of a process, with the threads that have ended, by its clock (clock_getcpuclockid)."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def session(leader):
    pids = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and int(stat(name)[3]) == leader:
                pids.append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return pids


class Control:
    """One connection to the control socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.rest, self.number = b"", 0
        self.ask("hello", {"protocol": 1, "client": "bench"})

    def ask(self, method, params=None):
        self.number += 1
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params or {}}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self.line()
            if answer.get("id") == self.number:
                return answer["result"]

    def line(self):
        while b"\n" not in self.rest:
            got = self.socket.recv(1 << 20)
            if not got:
                raise OSError("closed")
            self.rest += got
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)


class System:
    """A mainstay with these modules, until the end of a `with`."""

    def __init__(self, programs, modules, groups=True):
        self.programs, self.modules, self.groups = programs, modules, groups

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory()
        at = self.dir.name
        os.mkdir(f"{at}/config")
        with open(f"{at}/config/mainstay.toml", "w") as file:
            file.write(
                f'[mainstay]\nname = "bench"\nstate_dir = "{at}/state"\nruntime_dir = "{at}/run"\n'
                + self.modules
            )
        env = dict(os.environ, MAINSTAY_CGROUP="on" if self.groups else "off")
        with open(f"{at}/out", "w") as out:
            command = [f"{self.programs}/mainstay", "up", "--config", f"{at}/config"]
            self.up = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env
            )
        end = time.monotonic() + 60
        while True:
            try:
                self.control = Control(f"{at}/run/control.sock")
                view = self.control.ask("system.status")
                if view["status"] != "starting":
                    self.runtime = view["pid"]
                    return self
            except (OSError, KeyError):
                pass
            if time.monotonic() > end or self.up.poll() is not None:
                print(open(f"{at}/out").read(), file=sys.stderr)
                self.__exit__()
                raise SystemExit("mainstay did not start")
            time.sleep(0.02)

    def __exit__(self, *_):
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
            try:
                self.up.wait(60)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
        self.dir.cleanup()

    def module(self, name):
        return self.control.ask("module.get", {"module": name})

    def own_seconds(self):
        """CPU time of the holder and of the runtime."""
        return precise_seconds(self.up.pid) + precise_seconds(self.runtime)


def hog_module(programs, kind, count):
    if kind == "threads":
        return f'["{programs}/misbehave", "--burn-cpu", "{count}", "--life", "600s"]'
    spin = "(while :; do :; done) & " * count
    return json.dumps(["/bin/sh", "-c", spin + "wait"])


def windows(leader, seconds):
    """Percent of a core in every window of 5 s, one each half a second."""
    marks = []
    for _ in range(int(seconds * 2) + 1):
        # Ticks of 10 ms would hide what 50 processes use: each has two of them in 5 s.
        used = sum(precise_seconds(pid) for pid in session(leader))
        marks.append((time.monotonic(), used))
        time.sleep(0.5)
    pairs = [(marks[i], marks[i + 10]) for i in range(len(marks) - 10)]
    return [(b[1] - a[1]) / (b[0] - a[0]) * 100 for a, b in pairs]


def hogs(programs):
    for groups in (True, False):
        way = "groups" if groups else "walked"
        for kind in ("processes", "threads"):
            for count in (1, 4, 50):
                text = f"[module.it]\ncommand = {hog_module(programs, kind, count)}\n"
                text += "limits = { cpu_percent = 20 }\n"
                with System(programs, text, groups) as system:
                    time.sleep(2)
                    shares = windows(system.module("it")["pid"], 20)
                low, high = min(shares), max(shares)
                found = f"{low:.1f} to {high:.1f}, mean {statistics.mean(shares):.1f} %"
                what = f"hog of {count} {kind} under cpu_percent = 20, {way}: windows of 5 s"
                row(what, found, "18 to 22 %", 18 <= low and high <= 22)


def leak(programs):
    rate, limit = 4, 200
    text = "[resources]\ncheck_interval = \"1s\"\ndwell = \"10m\"\n[module.it]\n"
    words = ["--leak", str(rate), "--leak-max", "400", "--life", "300s"]
    text += f"command = {json.dumps([f'{programs}/misbehave', *words])}\n"
    text += f"limits = {{ memory_mb = {limit} }}\n"
    guesses, crossed = [], None
    with System(programs, text) as system:
        pid = system.module("it")["pid"]
        page = os.sysconf("SC_PAGE_SIZE")
        while crossed is None:
            at = time.monotonic()
            report = system.control.ask("health.report", {"module": "it"})["modules"][0]
            for trend in report["trends"]:
                if trend["metric"] == "memory_bytes" and trend.get("limit_in_s"):
                    guesses.append((at, trend["limit_in_s"]))
            if int(stat(pid)[21]) * page >= limit << 20:
                crossed = at
            time.sleep(0.5)
    # What remains is told in whole seconds: below ten that rounding is most of the error.
    errors = [abs(told / (crossed - at) - 1) * 100 for at, told in guesses if crossed - at >= 10]
    if not errors:
        return row("time to the limit of a leak", "nothing told", "within 20 %", False)
    found = f"median {statistics.median(errors):.1f}, worst {max(errors):.1f} % of {len(errors)}"
    row("time to the limit of a leak of 4 MB/s: error", found, "20 %", max(errors) <= 20)


def idle(programs, head, seconds, count, probes="", command='["sleep", "1000"]'):
    """CPU seconds a second of mainstay itself, with so many modules that do nothing."""
    text = head
    for number in range(count):
        text += f"[module.m{number}]\ncommand = {command}\n{probes}"
    with System(programs, text) as system:
        time.sleep(5)
        before, at = system.own_seconds(), time.monotonic()
        time.sleep(seconds)
        return (system.own_seconds() - before) / (time.monotonic() - at)


def samples(programs):
    head = '[resources]\ncheck_interval = "{}"\n'
    for word, command in (
        ("that sleep", '["sleep", "1000"]'),
        ("that work", '["perl", "-e", "select undef, undef, undef, 0.2 while 1"]'),
    ):
        with_samples = idle(programs, head.format("1s"), 30, 100, command=command)
        without = idle(programs, head.format("1h"), 30, 100, command=command)
        micros = (with_samples - without) * 1e6 / 100
        what = f"CPU time of a module-sample (100 modules {word}, each second)"
        row(what, f"{micros:.1f} µs", "≤ 50 µs", micros <= 50)


def command_floor():
    """CPU time of twenty commands a second for what starts and reads them, and does nothing else."""
    source = os.path.join(ROOT, "benches", "command_floor.c")
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "floor")
        if subprocess.run(["cc", "-O2", "-o", program, source]).returncode != 0:
            return
        groups = [None]
        base = next((one for one in CGROUPS if os.path.exists(f"{one}/cgroup.procs")), None)
        if base and os.access(base, os.W_OK):
            groups.append(f"{base}/command-floor-{os.getpid()}")
        for group in groups:
            if group:
                os.mkdir(group)
            found = subprocess.run([program] + [group] * bool(group), capture_output=True, text=True)
            if group:
                os.rmdir(group)
            if found.returncode == 0:
                each = float(found.stdout)
                word = "with a control group for each" if group else "without control groups"
                what = f"the least that 20 commands a second cost, {word}"
                row(what, f"{each * 20 * 100:.2f} % of a core", "–", None)


def health(programs):
    command_floor()
    head = '[resources]\ncheck_interval = "1h"\n[health]\nadaptive = false\ninterval = "1s"\n'
    without = idle(programs, head, 20, 20)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = listener.getsockname()[1]
    child = os.fork()
    if child == 0:  # accepts, answers whoever asks, closes
        while True:
            stream, _ = listener.accept()
            stream.settimeout(1)
            try:
                if stream.recv(4096):
                    stream.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                pass
            stream.close()
    try:
        for kind, probe in (
            ("tcp", f'{{ tcp = "127.0.0.1:{port}", owner = "any" }}'),
            ("http", f'{{ http = "http://127.0.0.1:{port}/", owner = "any" }}'),
            ("exec", '{ exec = ["true"] }'),
        ):
            used = idle(programs, head, 20, 20, f"health.probes = [{probe}]\n")
            percent = (used - without) * 100
            what = f"health of 20 modules, each probed by {kind} every second"
            row(what, f"{percent:.2f} % of a core", "< 1 %", percent < 1)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        listener.close()


def percentiles(took):
    took.sort()
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    return p99, f"p50 {p50:.2f}, p99 {p99:.2f}, worst {took[-1]:.2f} ms of {len(took)}"


def crash_floor(kills):
    """The same with nothing in between: a child of this program, until it is waited for."""
    took = []
    for _ in range(kills):
        child = subprocess.Popen(["sleep", "1000"])
        time.sleep(0.01)
        began = time.monotonic()
        child.kill()
        child.wait()
        took.append((time.monotonic() - began) * 1000)
    what = "kill -9 of a child of this program, until it is waited for"
    row(what, percentiles(took)[1], "–", None)


def crash(programs, kills=300):
    crash_floor(kills)
    text = '[recovery]\nmax_attempts = 0\nconcurrent_restarts = 100\n'
    text += 'backoff = { initial = "1ms", max = "1ms", floor = "1ms" }\n'
    for number in range(20):
        text += f'[module.m{number}]\ncommand = ["sleep", "1000"]\n'
    took = []
    with System(programs, text) as system:
        events = Control(f"{system.dir.name}/run/control.sock")
        events.ask("events.subscribe")
        for number in range(kills):
            name = f"m{number % 20}"
            view = system.module(name)
            while view["state"] != "running":
                time.sleep(0.002)
                view = system.module(name)
            time.sleep(0.01)
            began = time.monotonic()
            os.kill(view["pid"], signal.SIGKILL)
            while True:
                event = events.line().get("params", {})
                event = event.get("event", event)
                if event.get("kind") == "module.exited" and event.get("module") == name:
                    if event.get("generation") == view["generation"]:
                        break
            took.append((time.monotonic() - began) * 1000)
    p99, found = percentiles(took)
    row("kill -9 of a module, until a client has its event", found, "p99 < 5 ms", p99 < 5)


GROUPS = {"hogs": hogs, "leak": leak, "samples": samples, "health": health, "crash": crash}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(GROUPS), help="groups of rows")
    parser.add_argument("--programs", default=f"{ROOT}/target/release")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.programs}\n")
    print("| what | found | goal | reached |\n|---|---|---|---|", flush=True)
    for name in args.only.split(","):
        GROUPS[name](os.path.abspath(args.programs))


if __name__ == "__main__":
    main()
