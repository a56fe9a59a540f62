"""The user interface: a page on a loopback address. It holds no state; it calls the backend."""

import html
import http.server
import secrets
from urllib.parse import parse_qs

from mainstay import Module

PAGE = """<!doctype html><meta charset="utf-8"><title>Notes</title>
<h1>Notes</h1><ul>{notes}</ul>
<form method="post"><input type="hidden" name="key" value="{key}">
<input name="note" autofocus> <button>Add</button></form>
<p>{changes} changes seen</p>"""

module = Module()
key = secrets.token_hex(16)          # a form of another web site does not have it
changes = 0


def changed(_event):
    global changes
    changes += 1


class Page(http.server.BaseHTTPRequestHandler):
    def is_local(self):
        """A web site can point a name of its own at 127.0.0.1; the Host header gives it away."""
        host, port = self.server.server_address[:2]
        if self.headers["Host"] in (f"{host}:{port}", f"localhost:{port}"):
            return True
        self.send_error(403)
        return False

    def do_GET(self):
        if not self.is_local():
            return
        notes = "".join(f"<li>{html.escape(note)}" for note in module.call("notes", "list"))
        body = PAGE.format(notes=notes, key=key, changes=changes).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        if not self.is_local():
            return
        length = min(int(self.headers["Content-Length"] or 0), 10_000)
        form = parse_qs(self.rfile.read(length).decode())
        if form.get("key") != [key]:
            self.send_error(403)
            return
        module.call("notes", "add", form.get("note", [""])[0])
        self.send_response(303)
        self.send_header("Location", "/")
        self.end_headers()

    def log_message(self, *_):
        pass


module.subscribe("notes.*", changed)
server = http.server.ThreadingHTTPServer(("127.0.0.1", module.settings()["port"]), Page)
address = "http://{}:{}/".format(*server.server_address[:2])
print(address)
module.status(f"shows the notes on {address}")
module.ready()
server.serve_forever()
