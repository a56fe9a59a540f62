#!/usr/bin/env python3
"""Every row of docs/PERFORMANCE.md in one go, floor, dinit and mainstay by turns, and their table.

Owns which rows there are and their goals. Never says a figure without its floor, where it has one.

    PEERS_DIR=... ./table.py [--runs 5] [--real-time] [--only start,idle]

About ten minutes with all rows. dinit takes part where it is installed: in $BENCH_PREFIX/dinit/bin
or on the PATH. --real-time keeps other work out of what is timed (chrt -r 1).
"""
import argparse
import glob
import os
import re
import statistics
import subprocess
import time

import mainstay_peer as bench
import extra

peers = bench.peers
FLOOR, DINIT, OURS = peers.FloorVfork, peers.Dinit, bench.Mainstay
BESIDE = [DINIT] if DINIT.available() else []
RELEASE = os.path.dirname(bench.MAINSTAY)
GROUPS = ["start", "restart", "graph", "status", "away", "demo", "pure", "memory", "idle", "size"]
samples, rows = {}, []


def record(peer, n):
    def keep(test, values, **more):
        label = more.get("label", test)
        if more.get("supervisor_gone_ms"):
            samples.setdefault((peer.name, n, "gone"), []).append(more["supervisor_gone_ms"])
        samples.setdefault((peer.name, n, label), []).extend(values)
        print(f"  {peer.name} {n} {label}", [round(value, 2) for value in values][:5], flush=True)
    return keep


def of(peer, n, label):
    return sorted(samples.get((peer.name, n, label), []))


def middle(values):
    return statistics.median(values) if values else None


def p99(values):
    return peers.pct(values, 0.99) if values else None


def text(value, unit=""):
    if value is None:
        return "–"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}{unit}"


def row(what, ours, goal, reached, floor=None, dinit=None, unit=" ms"):
    """`reached` is asked with our value and its ratio to the floor; None: unknown."""
    ratio = ours / floor if ours and floor else None
    known = ours is not None and reached is not None
    verdict = "–" if not known else "yes" if reached(ours, ratio) else "**no**"
    values = (text(floor, unit), text(dinit, unit), text(ours, unit))
    rows.append((what, *values, text(ratio), text(ours / dinit if ours and dinit else None),
                 goal, verdict))


def ahead(what, n, label, of_all=None, theirs=None):
    """A row whose goal is to be ahead of dinit in the same run."""
    of_all = of_all or middle
    floor, dinit = of_all(of(FLOOR, n, label)), of_all(of(DINIT, n, theirs or label))
    reached = (lambda ms, _: ms < dinit) if dinit else None
    row(what, of_all(of(OURS, n, label)), "< dinit", reached, floor, dinit)


def timed(on):
    """What is started from here on runs in a class of its own, or not any more."""
    policy, level = (os.SCHED_RR, 1) if on else (os.SCHED_OTHER, 0)
    os.sched_setscheduler(0, policy, os.sched_param(level))


def start(runs):
    for run in range(runs):
        for n, tests in ((20, {"start"}), (1000, {"start", "storm", "stop"})):
            for peer in [FLOOR, *BESIDE, OURS]:
                peers.run_session(peer, n, run, tests, record(peer, n), n == 1000)
    ahead("start of 20, to the last one's first instruction", 20, "start")
    for label, what, most in (("start", "start of 1000", 1.4),
                              ("storm", "1000 killed at once", 1.25)):
        row(what, middle(of(OURS, 1000, label)), f"≤ {most} × the floor",
            lambda _, ratio, most=most: ratio <= most, middle(of(FLOOR, 1000, label)),
            middle(of(DINIT, 1000, label)))
    ahead("ordered stop of 1000, last module gone", 1000, "stop")
    ahead("ordered stop of 1000, supervisor gone", 1000, "gone")


def restart(runs):
    for run in range(min(runs, 3)):
        for n in (20, 1000):
            for peer in [FLOOR, *BESIDE, OURS]:
                peers.run_session(peer, n, run, {"restart"}, record(peer, n), True)
    for n in (20, 1000):
        ahead(f"restart of one of {n}, p50", n, "restart")
        ahead(f"restart of one of {n}, p99", n, "restart", p99)


def graph(runs):
    for _ in range(runs):
        for kind in ("chain", "layers"):
            for peer in [*BESIDE, OURS]:
                peers.run_graph(peer, kind, True, record(peer, 100))
    ahead("ready-gated chain of 100", 100, "chain-ready")
    ahead("ready-gated 10 layers × 10", 100, "layers-ready")


def status(_):
    for peer in [*BESIDE, OURS]:
        peers.run_session(peer, 100, 0, {"status"}, record(peer, 100), False)
    ahead("status of 100, open connection", 100, "module.list, open conn",
          theirs="control socket LISTSERVICES, open conn")
    ahead("status of 100, fresh connection", 100, "same, fresh conn")
    ahead("status of 100, whole command", 100, "status")
    asked = extra.requests()
    one = sorted(asked["module.get"])
    row("status of one, p50", middle(one), "–", lambda *_: True)
    row("status of one, p99", p99(one), "< 0.2 ms", lambda ms, _: ms < 0.2)
    row("requests a second on one connection", asked["a second"], "≥ 20 000",
        lambda count, _: count >= 20_000, unit="")


def away(_):
    for n, found in extra.away().items():
        most = 150 if n == 20 else 300
        row(f"runtime killed, {n} modules: in control again", middle(found["ms"]), f"≤ {most} ms",
            lambda ms, _, most=most: ms <= most)
        touched = found["touched"] + found["doubled"]
        row("… modules touched or started twice", float(touched), "0", lambda n, _: n == 0, unit="")


def demo(_):
    row("demo application, exec to healthy", middle(extra.demo()), "< 700 ms",
        lambda ms, _: ms < 700)


def pure(runs):
    """What needs no processes; built before: cargo build --release, cargo bench --no-run."""
    chaos = os.path.join(RELEASE, "chaos")
    if os.path.exists(chaos):
        said = [peers.out([chaos, "--seeds", "100"]) for _ in range(runs)]
        steps = [float(re.search(r"\((\d+) a second\)", text)[1]) / 1e6 for text in said]
        row("simulator, policy steps a second", middle(steps), "≥ 5 million",
            lambda count, _: count >= 5, unit=" million")
    found = [path for path in glob.glob(f"{RELEASE}/deps/policy-*") if os.access(path, os.X_OK)]
    if found:
        newest = max(found, key=os.path.getmtime)
        said = peers.out([newest, "--bench", "100000", "--quick"])
        time_of = re.search(r"time:\s+\[\S+ \S+ ([\d.]+) (\S+)", said)
        scale = {"µs": 0.001, "ms": 1, "s": 1000}
        row("plan of 100 000 nodes, 300 000 edges",
            float(time_of[1]) * scale[time_of[2]] if time_of else None, "< 200 ms",
            lambda ms, _: ms < 200)


def memory(_):
    for n, most in ((20, 4), (1000, 12)):
        for peer in [FLOOR, *BESIDE, OURS]:
            peers.run_session(peer, n, 0, {"memory"}, record(peer, n), False)
        ours, dinit, floor = (one and one / 1000 for one in
                              (middle(of(peer, n, "memory")) for peer in (OURS, DINIT, FLOOR)))
        row(f"memory (PSS), holder + runtime, {n} modules", ours, f"≤ {most} MB",
            lambda mb, _, most=most: mb <= most, floor, dinit, unit=" MB")


def idle(_):
    def keep(name, n, test, values, **more):
        samples.setdefault((name, n, test), []).extend(values)
        print(f"  idle {name}", values, more, flush=True)
    peers.run_idle([*BESIDE, OURS, bench.MainstayQuiet], 100, 60, keep)
    for name, what, most in ((OURS.name, "with", 100), (bench.MainstayQuiet.name, "without", 5)):
        row(f"idle CPU of 100 modules, {what} sampling, a second",
            middle(samples.get((name, 100, "idle"))), f"≤ {most} µs",
            lambda us, _, most=most: us <= most, dinit=middle(of(DINIT, 100, "idle")),
            unit=" µs")


def size(_):
    bare = f"{peers.ROOT}/stripped-{os.getpid()}"
    subprocess.run(["strip", "-o", bare, bench.MAINSTAY], check=True)
    row("binary, release, stripped", os.path.getsize(bare) / 1e6, "≤ 15 MB",
        lambda mb, _: mb <= 15, unit=" MB")
    os.unlink(bare)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--real-time", action="store_true")
    arguments.add_argument("--only", default=",".join(GROUPS), help="groups of rows: %(default)s")
    asked = arguments.parse_args()
    subprocess.run(["make", "-s", "-C", f"{peers.HERE}/c"], check=True)
    os.makedirs(peers.ROOT, exist_ok=True)
    began = time.monotonic()
    for group in asked.only.split(","):
        print(f"{group}:", flush=True)
        timed(asked.real_time and group not in ("memory", "idle", "size"))
        globals()[group](asked.runs)
    minutes = (time.monotonic() - began) / 60
    beside = "".join(f", {peer.name} {peer.version()}" for peer in BESIDE)
    print(f"\n{OURS.version()}{beside}, kernel {os.uname().release}, {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f}, {minutes:.1f} minutes, real time: {asked.real_time}\n")
    print("| what | floor | dinit | mainstay | of floor | of dinit | goal | reached |")
    print("|---|---|---|---|---|---|---|---|")
    for one in rows:
        print("| " + " | ".join(one) + " |")


if __name__ == "__main__":
    main()
