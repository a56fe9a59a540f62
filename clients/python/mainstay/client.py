"""A program that looks at a running mainstay or changes it: a user interface, a script.

Owns one connection for requests, and one for each stream of events or log lines.
Never repeats a request by itself: only the caller knows whether that is wanted.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

from .protocol import (
    ConnectionClosed,
    Event,
    Lines,
    LogLines,
    ModuleView,
    SystemView,
    VERSION,
    control_socket,
    request,
    result_of,
)

#: Seconds between two attempts of a stream to connect again.
_RETRY_SECONDS = 0.5


class Client:
    """A connection to the control socket. It opens with the first request, and again after it
    closed. Safe to share between threads; requests are sent one after the other.

    ``socket``: its path; without it the one that ``MAINSTAY_CONTROL`` names, else that of the
    instance ``name``. ``timeout``: seconds until an answer must be there.
    """

    def __init__(
        self,
        name: str = "mainstay",
        *,
        socket: Optional[str] = None,
        timeout: float = 10.0,
        client: Optional[str] = None,
    ) -> None:
        self._path = socket or os.environ.get("MAINSTAY_CONTROL") or control_socket(name)
        self._timeout = timeout
        self._client = client or f"{os.path.basename(sys.argv[0]) or 'python'} (python {VERSION})"
        self._lines: Optional[Lines] = None
        self._number = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._drop()

    def request(
        self, method: str, params: Optional[Dict[str, Any]] = None, timeout: Optional[float] = None
    ) -> Any:
        """Sends any request of docs/protocol.md and returns its result.

        Raises RequestRefused, ConnectionClosed or TimeoutError. After the last two nobody knows
        whether a change was made.
        """
        with self._lock:
            if self._lines is None:
                self._lines = self._connect()
            try:
                self._number += 1
                self._lines.settimeout(self._timeout if timeout is None else timeout)
                self._lines.send(request(self._number, method, params or {}))
                while True:
                    reply = self._lines.receive()
                    if reply.get("id") == self._number:
                        break
            except (ConnectionClosed, TimeoutError):
                # The answer to this request must not be taken for that to the next.
                self._drop()
                raise
        return result_of(reply)

    def status(self) -> SystemView:
        """The system as a whole."""
        view: SystemView = self.request("system.status")
        return view

    def modules(self) -> List[ModuleView]:
        """All modules."""
        views: List[ModuleView] = self.request("module.list")
        return views

    def module(self, name: str) -> ModuleView:
        """One module."""
        view: ModuleView = self.request("module.get", {"module": name})
        return view

    def start(self, module: str, *, wait: bool = True, timeout: float = 300.0) -> ModuleView:
        """Starts a module and what it requires; with ``wait`` returns when it is ready or failed."""
        return self._change("module.start", module, wait, timeout)

    def stop(self, module: str, *, wait: bool = True, timeout: float = 300.0) -> ModuleView:
        """Stops a module and what requires it."""
        return self._change("module.stop", module, wait, timeout)

    def restart(self, module: str, *, wait: bool = True, timeout: float = 300.0) -> ModuleView:
        """Restarts a module; what requires it is restarted with it."""
        return self._change("module.restart", module, wait, timeout)

    def why(self, module: str) -> Dict[str, Any]:
        """Why a module is as it is: ``summary``, ``chain``, ``evidence``, ``next``."""
        answer: Dict[str, Any] = self.request("why", {"module": module})
        return answer

    def events(self, since: Optional[int] = None, *, module: Optional[str] = None) -> Iterator[Event]:
        """Follows the events of the journal for ever, from this call on, also while mainstay is
        replaced: after a lost connection it goes on with the event after the last one.
        ``since``: those after this sequence number first."""
        if since is None:
            newest = self.request("events.list", {"limit": 1})["events"]
            since = newest[-1]["seq"] if newest else 0
        params: Dict[str, Any] = {} if module is None else {"module": module}
        return self._follow(since, params)

    def _follow(self, last: int, params: Dict[str, Any]) -> Iterator[Event]:
        while True:
            try:
                for event in self._stream("events.subscribe", {**params, "since": last}, "event"):
                    last = max(last, event.get("seq", last))
                    yield event
            except (ConnectionClosed, TimeoutError):
                time.sleep(_RETRY_SECONDS)

    def logs(self, module: str, lines: int = 100, *, follow: bool = False) -> Iterator[LogLines]:
        """The newest lines of a module; with ``follow`` those that come, until mainstay ends."""
        params = {"module": module, "lines": lines, "follow": follow}
        if not follow:
            yield self.request("logs.read", params)
            return
        yield from self._stream("logs.read", params, "log")

    def _change(self, method: str, module: str, wait: bool, timeout: float) -> ModuleView:
        reply = self.request(method, {"module": module, "wait": wait}, timeout)
        view: ModuleView = reply["module"]
        return view

    def _stream(self, method: str, params: Dict[str, Any], name: str) -> Iterator[Any]:
        lines = self._connect()
        try:
            lines.send(request(1, method, params))
            while True:
                message = lines.receive()
                if message.get("method") == name:
                    yield message.get("params") or {}
                elif message.get("id") == 1:
                    first = result_of(message)
                    if name == "log":
                        yield first
                    lines.settimeout(None)
        finally:
            lines.close()

    def _connect(self) -> Lines:
        lines = Lines(self._path, self._timeout)
        try:
            lines.hello(self._client)
        except BaseException:
            lines.close()
            raise
        return lines

    def _drop(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None
