#!/usr/bin/env python3
"""What only mainstay has: a runtime that may die, a control socket, a demo application.

Owns its own sessions, made with the comparison's. Never compares: see mainstay_peer.py.

    PEERS_DIR=... ./extra.py away,holder,requests,demo
"""
import json
import os
import signal
import subprocess
import sys
import time

import mainstay_peer as bench

peers, MS = bench.peers, 1e6
now = time.monotonic_ns


def status(session):
    connection = bench.Control(session.p.control())
    view = json.loads(connection.ask("system.status"))["result"]
    connection.close()
    return view


def spread(values):
    values = sorted(values)
    return {
        "p50": round(values[len(values) // 2], 3),
        "p99": round(values[min(len(values) - 1, int(len(values) * 0.99))], 3),
        "max": round(values[-1], 3),
        "of": len(values),
    }


def away():
    """kill -9 of the runtime, until the new one answers; who was touched, and is it in control?

    One kill a session: a runtime that dies again within a minute is started again with a pause."""
    found = {}
    for n, times in ((20, 5), (1000, 3)):
        back, again_after, starts, alive = [], [], 0, 0
        for _ in range(times):
            with peers.Session(bench.Mainstay, n) as s:
                assert s.start()[0]
                time.sleep(2)
                before = status(s)
                began = now()
                os.kill(before["pid"], signal.SIGKILL)
                while True:
                    try:
                        view = status(s)
                        if view["pid"] != before["pid"] and view["modules"]["running"] >= n:
                            break
                    except (OSError, AssertionError, KeyError):
                        pass
                    time.sleep(0.0005)
                back.append((now() - began) / MS)
                time.sleep(0.5)
                s.poll()
                starts += len(s.ev) - n
                alive += sum(peers.alive(pid) for _, pid in s.latest.values())
                name, (_, pid) = next(iter(s.latest.items()))
                began = now()
                os.kill(pid, signal.SIGKILL)
                again_after.append((s.wait_new(name, pid, 10)[0] - began) / MS)
        print(f"runtime killed, {n} modules: in control again after ms", spread(back),
              f"alive {alive}/{n * times}, started a second time {starts};",
              "a module killed afterwards is back after ms", spread(again_after), flush=True)
        found[n] = {"ms": back, "touched": n * times - alive, "doubled": starts}
    return found


def holder():
    """kill -9 of the holder: the runtime stops the modules in order and ends."""
    with peers.Session(bench.Mainstay, 20) as s:
        assert s.start()[0]
        time.sleep(2)
        view, began = status(s), now()
        os.kill(view["holder_pid"], signal.SIGKILL)
        pids = [pid for _, pid in s.latest.values()] + [view["pid"]]
        while any(peers.alive(pid) for pid in pids) and now() - began < 20e9:
            time.sleep(0.002)
        left = sum(peers.alive(pid) for pid in pids)
        gone = (now() - began) / MS
        # The next start finds the place free and each module once.
        s.launch(s.p.cmd())
        time.sleep(2)
        s.poll()
        alive = sum(peers.alive(pid) for _, pid in s.latest.values())
        print(f"holder killed, 20 modules: {left} left, all gone after {gone:.1f} ms;",
              f"started again: {alive} alive, payloads {len(s.procs()[0])}", flush=True)


def requests():
    """One connection, one question at a time and many at once."""
    with peers.Session(bench.Mainstay, 100) as s:
        assert s.start()[0]
        time.sleep(3)
        connection, found = bench.Control(s.p.control()), {}
        for method, params in (("module.get", {"module": "svc7"}), ("system.status", {}),
                               ("module.list", {})):
            took = []
            for _ in range(5000):
                began = now()
                connection.ask(method, params)
                took.append((now() - began) / MS)
            print(f"{method}, one at a time, ms:", spread(took), flush=True)
            found[method] = took
        call = {"jsonrpc": "2.0", "id": 1, "method": "module.get", "params": {"module": "svc7"}}
        burst = (json.dumps(call).encode() + b"\n") * 100
        began, answered = now(), 0
        while now() - began < 3e9:
            connection.socket.sendall(burst)
            for _ in range(100):
                connection.line()
            answered += 100
        found["a second"] = answered / ((now() - began) / 1e9)
        print(f"module.get, 100 on their way: {found['a second']:,.0f} a second", flush=True)
    return found


def demo():
    """The demo application of the repository, from exec to every module running."""
    folder = f"{peers.ROOT}/demo-{os.getpid()}"
    took = []
    for run in range(5):
        place = f"{folder}-{run}"
        sets = [f"mainstay.state_dir={place}/state", f"mainstay.runtime_dir={place}/run"]
        command = [bench.MAINSTAY, "up", "--config", f"{bench.REPOSITORY}/config"]
        for one in sets:
            command += ["--set", one]
        began = now()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while now() - began < 20e9:
            try:
                connection = bench.Control(f"{place}/run/control.sock")
                view = json.loads(connection.ask("system.status"))["result"]
                connection.close()
                if view["status"] == "healthy":
                    break
            except (OSError, AssertionError):
                pass
            time.sleep(0.002)
        took.append((now() - began) / MS)
        child.send_signal(signal.SIGTERM)
        child.wait(30)
    print("demo application, exec to healthy, ms:", spread(took), flush=True)
    return took


if __name__ == "__main__":
    os.makedirs(peers.ROOT, exist_ok=True)
    for name in (sys.argv[1] if len(sys.argv) > 1 else "away,holder,requests,demo").split(","):
        {"away": away, "holder": holder, "requests": requests, "demo": demo}[name]()
