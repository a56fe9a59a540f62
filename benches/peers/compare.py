#!/usr/bin/env python3
"""Two builds of mainstay by turns in one run: is the second one slower anywhere?

Owns the rows that are compared, and what counts as slower. Never says how fast: see table.py.

    PEERS_DIR=... ./compare.py OLD NEW [--runs 15] [--only small,graph,status,large] [--real-time]

Exits 1 if a row of NEW takes over 5 % more time than OLD beyond noise: with 95 % confidence, by the
order of the ratios of the pairs. Rows of two runs that differ by less than their noise say nothing.
"""
import argparse
import math
import os
import statistics
import subprocess
import sys
import time

import mainstay_peer as bench

peers = bench.peers
GROUPS = {"small": 20, "graph": 100, "status": 100, "large": 1000}
KILLS = 40


def interval(values):
    """The median of what these are a sample of, with 95 % confidence; nothing is assumed of it."""
    values, below = sorted(values), 0.0
    for rank in range(len(values) // 2):
        below += math.comb(len(values), rank) / 2 ** len(values)
        if below > 0.025:
            return values[max(rank - 1, 0)], values[-max(rank, 1)]
    return values[0], values[-1]


def session(build, group, run):
    """One value for each row of a group."""
    found = {}

    def keep(test, values, **more):
        label = more.get("label", test)
        if label == "restart" and values:
            found["restart p50"] = statistics.median(values)
            found["restart p90"] = peers.pct(sorted(values), 0.9)
        elif values:
            found[label] = statistics.median(values)
        if more.get("supervisor_gone_ms"):
            found["stop, supervisor gone"] = more["supervisor_gone_ms"]

    if group == "graph":
        for kind in ("chain", "layers"):
            peers.run_graph(build, kind, True, keep)
    elif group == "status":
        peers.run_session(build, 100, run, {"status"}, keep, False)
    elif group == "large":
        peers.run_session(build, 1000, run, {"start", "storm", "stop"}, keep, True)
    else:
        peers.run_session(build, 20, run, {"start"}, keep, False)
        with peers.Session(build, 20, fast=True) as one:
            if one.start()[0]:
                one.find_main()
                time.sleep(1)
                peers.t_restart(one, KILLS, keep)
                peers.t_stop(one, keep)
    return {f"{group} ({GROUPS[group]}): {label}": value for label, value in found.items()}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("old")
    arguments.add_argument("new")
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--limit", type=float, default=1.05)
    arguments.add_argument("--only", default=",".join(GROUPS), help="groups of rows: %(default)s")
    arguments.add_argument("--real-time", action="store_true")
    asked = arguments.parse_args()
    if asked.runs < 6:
        sys.exit("cannot tell noise from a change with fewer than 6 runs")
    subprocess.run(["make", "-s", "-C", f"{peers.HERE}/c"], check=True)
    os.makedirs(peers.ROOT, exist_ok=True)
    if asked.real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    paths = (os.path.abspath(asked.old), os.path.abspath(asked.new))
    builds = [type(name, (bench.Mainstay,), {"name": name, "program": path})
              for name, path in zip(("old", "new"), paths)]
    pairs, loads = {}, []
    for run in range(asked.runs):
        loads.append(os.getloadavg()[0])
        for group in asked.only.split(","):
            order = builds if run % 2 else builds[::-1]
            took = {build.name: session(build, group, run) for build in order}
            for row in took["old"].keys() & took["new"].keys():
                pairs.setdefault(row, []).append((took["old"][row], took["new"][row]))
        print(f"run {run + 1} of {asked.runs}", file=sys.stderr, flush=True)
    print(f"{asked.runs} runs, load {min(loads):.1f} to {max(loads):.1f}\n")
    print("| row | old, ms | new, ms | new / old | 95 % of it | slower |")
    print("|---|---|---|---|---|---|")
    slower = []
    for row, both in sorted(pairs.items()):
        old, new = (statistics.median(side) for side in zip(*both))
        ratios = [after / before for before, after in both]
        low, high = interval(ratios)
        if low > asked.limit and len(both) >= 6:
            slower.append(row)
        print(f"| {row} | {old:.2f} | {new:.2f} | {statistics.median(ratios):.2f} "
              f"| {low:.2f} to {high:.2f} | {'**yes**' if row in slower else 'no'} |")
    if slower:
        sys.exit(f"slower than by {asked.limit - 1:.0%}: " + "; ".join(slower))


if __name__ == "__main__":
    main()
