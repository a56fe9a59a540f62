"""The backend: keeps notes in memory, answers calls, and publishes each change."""

import signal

from mainstay import Module

module = Module()
notes = []


def add(call):
    notes.append(str(call.params))
    module.publish("notes.changed", {"count": len(notes)})
    module.status(f"{len(notes)} notes")
    return len(notes)


module.serve("list", lambda call: notes)
module.serve("add", add)
module.ready()
module.status("no notes yet")
signal.pause()                       # until SIGTERM
