#!/usr/bin/env python3
"""A module: counts, says how it is, answers calls, takes new settings without a restart."""

import signal
import threading

from mainstay import ConfigChange, Health, Module

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())

module = Module()
interval = 1.0
count = 0


def use(settings):
    seconds = float(settings.get("interval", 1.0))
    if seconds <= 0:
        raise ValueError("interval must be above 0")

    def apply():
        global interval
        interval = seconds

    return ConfigChange(apply)


module.on_config(use)
module.health(lambda: Health(metrics={"count": count}))
module.serve("count", lambda call: count)
module.ready()
while not stop.wait(interval):
    count += 1
    module.publish("numbers.count", count)
    module.status(f"counted to {count}")
module.stopping()
module.flush()
