"""Lines of JSON-RPC 2.0 over a Unix socket, and the types of the results that are used most.

Owns the framing, its limit and the errors. Never opens a connection again: its users do.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from typing import Any, Dict, List, Optional, TypedDict

VERSION = "0.1.0"
PROTOCOL = 1
#: Bytes of one line, at most; a longer one ends the connection.
MAX_LINE_BYTES = 1_048_576


class MainstayError(Exception):
    """What can go wrong between this program and mainstay."""


class ConnectionClosed(MainstayError):
    """There is no connection: mainstay does not run, or ended it."""


class RequestRefused(MainstayError):
    """mainstay refused a request. ``code`` is for programs, for instance ``unknown_module``."""

    def __init__(self, error: Dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "refused without a reason")))
        data = error.get("data") or {}
        self.code: str = str(data.get("code", "internal"))
        self.detail: Any = data.get("detail")


class ModuleView(TypedDict, total=False):
    """One module. More fields than these may come: docs/protocol.schema.json has all."""

    module: str
    state: str
    desired: str
    health: str
    score: int
    pid: Optional[int]
    generation: int
    restarts: int
    required: bool
    since: str
    reason: Optional[str]
    status_text: Optional[str]
    waits_for: Optional[str]
    issues: List[str]
    last_exit: Optional[Dict[str, Any]]


class SystemView(TypedDict, total=False):
    """The system as a whole."""

    name: str
    status: str
    reason: Optional[str]
    issues: List[str]
    modules: Dict[str, int]
    uptime_ms: int
    pid: int
    plan: int


class Event(TypedDict, total=False):
    """One event of the journal."""

    seq: int
    at: str
    kind: str
    module: Optional[str]
    cause: Optional[str]
    actor: Optional[str]
    payload: Any


class LineStamp(TypedDict, total=False):
    """What is known of a line; the stream where ``logs.streams`` is "split"."""

    at: str
    run: int
    stream: str


class LogLines(TypedDict, total=False):
    """Lines that a module wrote."""

    module: str
    lines: List[str]
    stamps: List[LineStamp]
    dropped_bytes: int


class Lines:
    """A connected socket that carries one JSON object a line.

    One thread reads; writers must not overlap.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._received = bytearray()
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise ConnectionClosed(
                f"cannot connect to {path}: {error.strerror or error}; is mainstay running?"
            ) from error

    def settimeout(self, seconds: Optional[float]) -> None:
        self._socket.settimeout(seconds)

    def send(self, message: Dict[str, Any]) -> None:
        self.send_bytes(line(message))

    def send_bytes(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ConnectionClosed(f"cannot send to mainstay: {error}") from error

    def receive(self) -> Dict[str, Any]:
        """Returns the next object. Raises ConnectionClosed at the end, TimeoutError in time."""
        start = 0
        while True:
            end = self._received.find(b"\n", start)
            if end >= 0:
                text = bytes(self._received[:end])
                del self._received[: end + 1]
                try:
                    message = json.loads(text)
                except ValueError as error:
                    raise ConnectionClosed(f"cannot read a line of mainstay: {error}") from error
                if not isinstance(message, dict):
                    raise ConnectionClosed("cannot read a line of mainstay: it is no object")
                return message
            start = len(self._received)
            if start > MAX_LINE_BYTES:
                raise ConnectionClosed("cannot read a line of more than 1 MiB")
            try:
                more = self._socket.recv(65536)
            except socket.timeout as error:
                raise TimeoutError("mainstay did not answer in time") from error
            except OSError as error:
                raise ConnectionClosed(f"cannot receive from mainstay: {error}") from error
            if not more:
                raise ConnectionClosed("mainstay closed the connection")
            self._received += more

    def hello(self, client: str, token: Optional[str] = None) -> Dict[str, Any]:
        """The first call of each connection; returns what mainstay says of itself."""
        params: Dict[str, Any] = {"client": client, "protocol": PROTOCOL}
        if token is not None:
            params["token"] = token
        self.send(request(0, "hello", params))
        while True:
            reply = self.receive()
            if "method" not in reply:
                welcome: Dict[str, Any] = result_of(reply)
                return welcome

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()


def line(message: Dict[str, Any]) -> bytes:
    """One message as a line. Raises MainstayError when it is longer than mainstay reads, or holds
    what JSON has not."""
    try:
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise MainstayError(f"cannot write a message as JSON: {error}") from error
    if len(data) > MAX_LINE_BYTES:
        raise MainstayError(f"cannot send {len(data)} bytes: {MAX_LINE_BYTES} at most")
    return data + b"\n"


def request(number: int, method: str, params: Any) -> Dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def result_of(reply: Dict[str, Any]) -> Any:
    error = reply.get("error")
    if isinstance(error, dict):
        raise RequestRefused(error)
    return reply.get("result")


def control_socket(name: str) -> str:
    """The control socket of the instance ``name`` of this user, where its configuration sets none:
    below ``$XDG_RUNTIME_DIR``, without it ``/run`` for root, else a folder of this user alone."""
    uid = os.geteuid()
    xdg = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(xdg) and not _is_of_another(xdg, uid):
        folder = os.path.join(xdg, "mainstay", name)
    elif uid == 0:
        folder = os.path.join("/run/mainstay", name)
    else:
        shared = os.path.join(tempfile.gettempdir(), f"mainstay-{uid}")
        try:
            found = os.lstat(shared)
        except FileNotFoundError:
            found = None
        if found and (not stat.S_ISDIR(found.st_mode) or found.st_uid != uid):
            raise MainstayError(f"cannot use {shared}: it belongs to another user")
        folder = os.path.join(shared, name)
    return os.path.join(folder, "control.sock")


def _is_of_another(folder: str, uid: int) -> bool:
    try:
        return os.stat(folder).st_uid != uid
    except OSError:
        return False
