"""Asks a running mainstay everything that Client can; the test beside it kills the runtime.

Usage: against.py SOCKET. Expects the modules `counter` and `quiet`; prints what it found as JSON.
"""

import json
import os
import signal
import sys

from mainstay import Client, RequestRefused

signal.alarm(100)
with Client(socket=sys.argv[1]) as mainstay:
    found = {"status": mainstay.status()["status"]}
    found["modules"] = sorted(view["module"] for view in mainstay.modules())
    before = mainstay.module("quiet")
    after = mainstay.restart("quiet")
    found["restarted"] = (after["state"], after["generation"] - before["generation"])
    found["stopped"] = mainstay.stop("quiet")["state"]
    found["started"] = mainstay.start("quiet")["state"]
    found["why"] = mainstay.why("quiet")["summary"]
    found["log"] = [line for part in mainstay.logs("quiet") for line in part["lines"]][-1]
    try:
        mainstay.module("nobody")
    except RequestRefused as refusal:
        found["refused"] = refusal.code
    events = mainstay.events(module="quiet")
    found["seen"] = []
    mainstay.restart("quiet")
    for event in events:
        found["seen"].append(event["kind"])
        if event["kind"] == "module.ready":
            break
    os.kill(mainstay.status()["pid"], signal.SIGKILL)
    for event in events:
        found["seen"].append(event.get("cause"))
        if event.get("cause") == "adopted":
            break
    events.close()
print(json.dumps(found))
