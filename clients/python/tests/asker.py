"""Calls `counter` and hears what it publishes, and says both in its status."""

import threading

from mainstay import Module, RequestRefused

module = Module()
heard = threading.Event()
module.subscribe("numbers.*", lambda event: heard.set())
module.ready()
heard.wait()
assert module.call("counter", "count") > 0
try:
    module.call("counter", "nothing")
except RequestRefused as refusal:
    module.status(f"heard, called, refused: {refusal.code}")
threading.Event().wait()
