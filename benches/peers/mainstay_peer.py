#!/usr/bin/env python3
"""mainstay beside other supervisors, with the peers.py of the comparison.

Owns mainstay's adapter and the measurements that only concern mainstay (extra.py).
Never changes peers.py: it is imported from PEERS_DIR, whose compiled payload it uses.

    PEERS_DIR=... ./mainstay_peer.py --peers mainstay,floor-vfork --n 20,1000 --tests start
"""
import importlib.util
import json
import os
import shutil
import socket
import sys

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAINSTAY = os.environ.get("MAINSTAY", os.path.join(REPOSITORY, "target", "release", "mainstay"))


def load():
    """The comparison, from --peers-dir or PEERS_DIR."""
    folder = os.environ.get("PEERS_DIR", "")
    if "--peers-dir" in sys.argv:
        at = sys.argv.index("--peers-dir")
        folder = sys.argv[at + 1]
        del sys.argv[at:at + 2]
    path = os.path.join(folder, "peers.py")
    if not os.path.exists(path):
        sys.exit("cannot find peers.py: name its folder with --peers-dir or PEERS_DIR")
    spec = importlib.util.spec_from_file_location("peers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peers = load()


class Control:
    """One connection to the control socket. A first call is sent in one write with hello, as
    the clients of mainstay do: its reply is in `first`."""

    def __init__(self, path, call=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.rest = b""
        self.number = 0
        hello = self.request("hello", {"protocol": 1, "client": "bench"})
        self.socket.sendall(hello + (self.request(call) if call else b""))
        self.result()
        self.first = self.result() if call else None

    def request(self, method, params=None):
        self.number += 1
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params or {}}
        return json.dumps(request).encode() + b"\n"

    def ask(self, method, params=None):
        self.socket.sendall(self.request(method, params))
        return self.result()

    def result(self):
        line = self.line()
        assert b'"result"' in line, line[:200]
        return line

    def line(self):
        while b"\n" not in self.rest:
            got = self.socket.recv(1 << 20)
            if not got:
                raise OSError("closed")
            self.rest += got
        line, self.rest = self.rest.split(b"\n", 1)
        return line

    def close(self):
        self.socket.close()


class Mainstay(peers.Peer):
    """Backoff at its minimum, no limit of attempts or of restarts at once; output to files, the
    journal on, everything else as shipped."""

    name, deps, ready = "mainstay", True, True
    settings, program = "", MAINSTAY

    @classmethod
    def version(cls):
        return peers.out([cls.program, "--version"]).removeprefix("mainstay ")

    @classmethod
    def available(cls):
        return os.path.exists(cls.program)

    def setup(self):
        text = [
            f'[mainstay]\nname = "bench"\nstate_dir = "{self.wd}/state"\n'
            f'runtime_dir = "{self.wd}/run"\n'
            "[recovery]\nmax_attempts = 0\nconcurrent_restarts = 0\n"
            'backoff = { initial = "0s", floor = "0s" }\n' + self.settings
        ]
        for i in range(self.n):
            text.append(f"[module.svc{i}]\ncommand = {json.dumps(self.argv(i))}\n")
            if self.ready_fd is not None:
                text.append(f"ready = {{ fd = {self.ready_fd} }}\n")
            if self.dep(i):
                text.append(f"requires = {json.dumps([f'svc{j}' for j in self.dep(i)])}\n")
        self.write("config/mainstay.toml", "".join(text))

    def env(self):
        return {"MAINSTAY_CONFIG": "", "MAINSTAY_LOG": os.environ.get("MAINSTAY_LOG", "error")}

    def cmd(self):
        return [self.program, "up", "--config", f"{self.wd}/config"]

    def control(self):
        return f"{self.wd}/run/control.sock"

    def status_cmd(self):
        return [self.program, "status", "--all", "--socket", self.control()]

    def raw_status(self):
        keep = Control(self.control())
        assert keep.ask("module.list").count(b'"state"') >= self.n

        def fresh():
            Control(self.control(), "module.list").close()

        return [
            ("module.list, open conn", lambda: keep.ask("module.list")),
            ("same, fresh conn", fresh),
            ("system.status, open conn", lambda: keep.ask("system.status")),
            ("module.get, open conn", lambda: keep.ask("module.get", {"module": "svc7"})),
        ]


class MainstayQuiet(Mainstay):
    """Without sampling: once a day is as good as never here."""

    name, settings = "mainstay-quiet", '[resources]\ncheck_interval = "1day"\n'


class MainstayWalk(Mainstay):
    """Without control groups, as where they are not delegated."""

    name = "mainstay-walk"

    def env(self):
        return {**super().env(), "MAINSTAY_CGROUP": "off"}


peers.ALL += [Mainstay, MainstayQuiet, MainstayWalk]
if not peers.Dinit.available() and shutil.which("dinit"):
    peers.Dinit.B = os.path.dirname(shutil.which("dinit"))

if __name__ == "__main__":
    peers.main()
