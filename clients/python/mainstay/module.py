"""A module of a mainstay application: ready, status, health, bus, calls, settings, features.

Owns the connection to mainstay, which opens again whenever it closes, and its threads.
Never blocks the module for mainstay and never ends it: without mainstay it does nothing.
"""

from __future__ import annotations

import collections
import json
import os
import queue
import random
import socket
import sys
import threading
import traceback
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from .protocol import (
    ConnectionClosed,
    Lines,
    MainstayError,
    RequestRefused,
    VERSION,
    line,
    request,
    result_of,
)

#: Published messages that wait while there is no connection; further ones replace the oldest.
PUBLISHES_MAX = 1024
#: Requests of mainstay and events that wait for their handler.
QUEUED_MAX = 1024
_RETRY_SECONDS = (0.02, 1.0)
_HELLO_SECONDS = 5.0


@dataclass
class Health:
    """How a module is. ``status``: ``healthy``, ``degraded`` or ``unhealthy``."""

    status: str = "healthy"
    issues: List[str] = field(default_factory=list)
    #: For instance ``queue_depth``, ``error_rate``, ``response_time_ms``.
    metrics: Dict[str, float] = field(default_factory=dict)

    def _params(self) -> Dict[str, Any]:
        return {"status": self.status, "issues": self.issues, "metrics": self.metrics}


@dataclass
class Call:
    """A call of another module."""

    sender: str
    method: str
    params: Any


@dataclass
class ConfigChange:
    """What a module makes of new settings: ``apply`` is called when every module that is concerned
    has accepted; without it the module can only begin with them, and mainstay restarts it."""

    apply: Optional[Callable[[], None]] = None


class Module:
    """The module that this process is. Reads the environment that mainstay gave it."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.name: Optional[str] = environ.get("MAINSTAY_MODULE")
        self.generation: Optional[int] = _number(environ.get("MAINSTAY_GENERATION"))
        self._path = environ.get("MAINSTAY_SOCKET")
        self._token = environ.get("MAINSTAY_TOKEN")
        self._settings = environ.get("MAINSTAY_SETTINGS")
        self._notify_address = environ.get("NOTIFY_SOCKET")
        on = filter(None, environ.get("MAINSTAY_FEATURES", "").split(","))
        self._features: Dict[str, Any] = {name: True for name in on}
        self._changed = threading.Condition()
        self._lines: Optional[Lines] = None
        self._closed = False
        self._numbers = 0
        self._is_ready = False
        self._status: Optional[str] = None
        self._subjects: List[str] = []
        self._messages: Deque[Dict[str, Any]] = collections.deque(maxlen=QUEUED_MAX)
        self._publishes: Deque[Tuple[int, bytes]] = collections.deque()
        self._sent: "collections.OrderedDict[int, bytes]" = collections.OrderedDict()
        self._calls: Dict[int, "queue.Queue[Any]"] = {}
        self._listeners: List[Tuple[List[str], Callable[[Dict[str, Any]], None]]] = []
        self._serves: Dict[str, Callable[[Call], Any]] = {}
        self._on_health: Optional[Callable[[], Health]] = None
        self._on_config: Optional[Callable[[Any], ConfigChange]] = None
        self._prepared: Optional[Callable[[], None]] = None
        self._on_feature: Optional[Callable[[str, Any], None]] = None
        self._on_reduce_load: Optional[Callable[[float], None]] = None
        self._health_lock = threading.Lock()
        self.dropped = 0
        #: The last failure in the background, as text.
        self.problem: Optional[str] = None
        if self._path:
            self._prompt = self._worker("mainstay-prompt")
            self._served = self._worker("mainstay-calls")
            self._events = self._worker("mainstay-events")
            self._thread("mainstay-reader", self._read)
            self._thread("mainstay-writer", self._write)
        interval = _number(environ.get("WATCHDOG_USEC"))
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if interval and is_ours and self._notify_address:
            self._thread("mainstay-watchdog", lambda: self._feed(interval / 2e6))

    # What the module says.

    def ready(self) -> None:
        """The module is ready: what requires it may start."""
        self._notify("READY=1")
        with self._changed:
            self._is_ready = True
            self._message("module.ready", {})

    def status(self, text: str) -> None:
        """Sets the status text, one line."""
        text = " ".join(text.splitlines())
        self._notify(f"STATUS={text}")
        with self._changed:
            self._status = text
            self._message("module.status", {"text": text})

    def stopping(self) -> None:
        """The module is about to end by itself."""
        self._notify("STOPPING=1")

    def report_health(self, health: Health) -> None:
        """Reports health between two checks."""
        with self._changed:
            self._message("module.health", health._params())

    def publish(self, subject: str, payload: Any) -> None:
        """Publishes on the bus, without waiting. ``subject``: names joined by dots. Without a
        connection up to 1024 messages wait; further ones replace the oldest (``dropped``)."""
        if not self._path:
            return
        with self._changed:
            number = self._number()
            params = {"subject": subject, "payload": payload}
            self._publishes.append((number, line(request(number, "bus.publish", params))))
            if len(self._publishes) > PUBLISHES_MAX:
                self._publishes.popleft()
                self.dropped += 1
            self._changed.notify_all()

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until mainstay has confirmed all that was published; returns whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._publishes and not self._sent, timeout)

    def call(self, module: str, method: str, params: Any = None, timeout: float = 10.0) -> Any:
        """Calls another module and returns its result.

        Raises RequestRefused, ConnectionClosed or TimeoutError; after the last two the call may
        have been carried out.
        """
        if not self._path:
            raise ConnectionClosed(f"cannot call {module}: mainstay did not start this program")
        answer: "queue.Queue[Any]" = queue.Queue(1)
        with self._changed:
            if not self._changed.wait_for(lambda: self._lines is not None, timeout):
                raise ConnectionClosed(f"cannot call {module}: mainstay does not answer")
            number = self._number()
            asked = {
                "module": module,
                "method": method,
                "params": params,
                "timeout_ms": max(1, min(60_000, int(timeout * 1000))),
            }
            message = request(number, "bus.call", asked)
            line(message)
            self._calls[number] = answer
            self._messages.append(message)
            self._changed.notify_all()
        try:
            # mainstay itself says that the time is over; this is for one that is gone.
            reply = answer.get(timeout=timeout + 1.0)
        except queue.Empty:
            raise TimeoutError(f"{module} did not answer {method} in {timeout} s") from None
        finally:
            with self._changed:
                self._calls.pop(number, None)
        if isinstance(reply, Exception):
            raise reply
        return result_of(reply)

    # What the module is asked.

    def health(self, handler: Callable[[], Health]) -> None:
        """Sets the handler of health checks; it should return within milliseconds."""
        self._on_health = handler

    def subscribe(
        self, subjects: Union[str, Iterable[str]], handler: Callable[[Dict[str, Any]], None]
    ) -> None:
        """Calls the handler with each event (``subject``, ``payload``, ``from``) under one of the
        subjects; ``*`` is one name, at the end one or more. All handlers share one thread."""
        names = [subjects] if isinstance(subjects, str) else list(subjects)
        with self._changed:
            self._listeners.append((names, handler))
            new = [name for name in names if name not in self._subjects]
            self._subjects += new
            if new:
                self._message("bus.subscribe", {"subjects": new})

    def serve(self, method: str, handler: Callable[[Call], Any]) -> None:
        """Answers calls of other modules to ``method``, one at a time. What the handler raises is
        the answer ``module_error``."""
        self._serves[method] = handler

    def settings(self) -> Dict[str, Any]:
        """The table ``settings`` of the module's configuration."""
        if not self._settings:
            return {}
        with open(self._settings, encoding="utf-8") as file:
            values: Dict[str, Any] = json.load(file)
        return values

    def on_config(self, handler: Callable[[Any], ConfigChange]) -> None:
        """Calls the handler with the settings, now and whenever they change. It changes nothing
        yet: it returns what does, or raises ValueError with the reason why it refuses."""
        change = handler(self.settings())
        if change.apply:
            change.apply()
        self._on_config = handler

    def feature(self, name: str) -> bool:
        """Whether a feature is on for this module."""
        return self._features.get(name) not in (None, False)

    def on_feature(self, handler: Callable[[str, Any], None]) -> None:
        """Sets the handler that is called when a feature changes."""
        self._on_feature = handler

    def on_reduce_load(self, handler: Callable[[float], None]) -> None:
        """Sets the handler that reduces the module's work to a share between 0 and 1."""
        self._on_reduce_load = handler

    @property
    def is_connected(self) -> bool:
        return self._lines is not None

    def close(self) -> None:
        """Ends the connection and the threads."""
        with self._changed:
            self._closed = True
            if self._lines:
                self._lines.close()
            self._changed.notify_all()
        if self._path:
            for worker in (self._prompt, self._served, self._events):
                try:
                    worker.put_nowait(None)
                except queue.Full:
                    pass

    # The connection.

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _message(self, method: str, params: Any) -> None:
        if self._lines is not None:
            self._messages.append(request(self._number(), method, params))
            self._changed.notify_all()

    def _read(self) -> None:
        delay = _RETRY_SECONDS[0]
        while not self._closed:
            try:
                lines = Lines(str(self._path), _HELLO_SECONDS)
                try:
                    client = f"{self.name or 'module'} (python {VERSION})"
                    lines.hello(client, self._token)
                    lines.settimeout(None)
                    self._connected(lines)
                    delay = _RETRY_SECONDS[0]
                    while True:
                        self._received(lines, lines.receive())
                finally:
                    lines.close()
                    self._disconnected()
            except (MainstayError, TimeoutError, OSError) as error:
                self.problem = str(error)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, delay * random.uniform(0.5, 1.5))
            delay = min(delay * 2, _RETRY_SECONDS[1])

    def _connected(self, lines: Lines) -> None:
        with self._changed:
            self._lines = lines
            self._messages.clear()
            if self._subjects:
                self._message("bus.subscribe", {"subjects": self._subjects})
            if self._is_ready:
                self._message("module.ready", {})
            if self._status is not None:
                self._message("module.status", {"text": self._status})
            self._publishes.extendleft(reversed(self._sent.items()))
            self._sent.clear()
            self._changed.notify_all()

    def _disconnected(self) -> None:
        with self._changed:
            self._lines = None
            for answer in self._calls.values():
                _offer(answer, ConnectionClosed("mainstay closed the connection during the call"))
            self._changed.notify_all()

    def _write(self) -> None:
        def work() -> bool:
            has_room = len(self._sent) < 256
            has_work = bool(self._messages or (self._publishes and has_room))
            return self._closed or (self._lines is not None and has_work)

        while True:
            with self._changed:
                self._changed.wait_for(work)
                if self._closed:
                    return
                lines = self._lines
                if self._messages:
                    data: Any = self._messages.popleft()
                else:
                    number, data = self._publishes.popleft()
                    self._sent[number] = data
            assert lines is not None
            try:
                lines.send_bytes(data if isinstance(data, bytes) else line(data))
            except MainstayError as error:
                self.problem = str(error)
                if isinstance(error, ConnectionClosed):
                    lines.close()

    def _received(self, lines: Lines, message: Dict[str, Any]) -> None:
        method = message.get("method")
        if method is None:
            self._answered(message)
        elif method == "event":
            if not _offer(self._events, lambda: self._deliver(message.get("params") or {})):
                self.problem = "a handler of events is slow: an event was dropped"
        else:
            worker = self._served if method == "call" else self._prompt
            if not _offer(worker, lambda: self._answer(lines, message)):
                self._reply(lines, message, None, ("busy", "too many requests wait"))

    def _answered(self, message: Dict[str, Any]) -> None:
        number = message.get("id")
        with self._changed:
            answer = self._calls.get(number) if isinstance(number, int) else None
            if answer is not None:
                _offer(answer, message)
                return
            was_published = self._sent.pop(number, None) is not None  # type: ignore[arg-type]
            if "error" in message:
                self.problem = str(RequestRefused(message["error"]))
                self.dropped += was_published
            self._changed.notify_all()

    def _answer(self, lines: Lines, message: Dict[str, Any]) -> None:
        try:
            result, error = self._handle(str(message["method"]), message.get("params") or {}), None
        except _Refusal as refusal:
            result, error = None, (refusal.code, str(refusal))
        except Exception as failure:  # The module's own: it is an answer, and its log has the rest.
            traceback.print_exc(file=sys.stderr)
            result, error = None, ("module_error", str(failure) or type(failure).__name__)
        self._reply(lines, message, {} if result is None else result, error)

    def _reply(
        self, lines: Lines, message: Dict[str, Any], result: Any, error: Optional[Tuple[str, str]]
    ) -> None:
        if message.get("id") is None:
            return
        reply: Dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        try:
            line(reply)
        except MainstayError as failure:
            error = ("module_error", f"cannot send the result: {failure}")
        if error:
            del reply["result"]
            reply["error"] = {"code": -32000, "message": error[1], "data": {"code": error[0]}}
        with self._changed:
            if self._lines is lines:
                self._messages.append(reply)
                self._changed.notify_all()

    def _handle(self, method: str, params: Dict[str, Any]) -> Any:
        if method == "call":
            handler = self._serves.get(params.get("method", ""))
            if handler is None:
                text = f"cannot call {params.get('method')}: the module does not serve it"
                raise _Refusal("unknown_method", text)
            return handler(Call(params.get("from", ""), params["method"], params.get("params")))
        if method == "health.check":
            health = self._probe() or Health("unhealthy", ["the health check itself failed"])
            return health._params()
        if method == "load.reduce":
            if self._on_reduce_load:
                self._on_reduce_load(float(params["factor"]))
            return {"handled": self._on_reduce_load is not None}
        if method == "feature.set":
            name, value = str(params["name"]), params.get("value")
            is_new = name not in self._features or self._features[name] != value
            self._features[name] = value
            if is_new and self._on_feature:
                self._on_feature(name, value)
            return {"handled": self._on_feature is not None}
        if method == "config.prepare":
            return self._prepare(params.get("settings"))
        if method == "config.commit":
            prepared, self._prepared = self._prepared, None
            if prepared:
                prepared()
            return None
        if method == "config.abort":
            self._prepared = None
            return None
        raise _Refusal("unknown_method", f"cannot answer {method}: this client does not know it")

    def _prepare(self, settings: Any) -> Dict[str, Any]:
        self._prepared = None
        if self._on_config is None:
            return {"verdict": "unhandled"}
        try:
            change = self._on_config(settings)
        except ValueError as refusal:
            return {"verdict": "refused", "reason": str(refusal)}
        if change.apply is None:
            return {"verdict": "restart"}
        self._prepared = change.apply
        return {"verdict": "accepted"}

    def _probe(self) -> Optional[Health]:
        with self._health_lock:
            if self._on_health is None:
                return Health()
            try:
                return self._on_health()
            except Exception:
                traceback.print_exc(file=sys.stderr)
                return None

    def _deliver(self, event: Dict[str, Any]) -> None:
        for subjects, handler in list(self._listeners):
            if any(_matches(subject, event.get("subject", "")) for subject in subjects):
                try:
                    handler(event)
                except Exception:
                    traceback.print_exc(file=sys.stderr)

    # Threads and sd_notify.

    def _feed(self, seconds: float) -> None:
        while not self._closed:
            # Only as long as the handler returns.
            if self._probe() is not None:
                self._notify("WATCHDOG=1")
            with self._changed:
                self._changed.wait_for(lambda: self._closed, seconds)

    def _notify(self, text: str) -> None:
        address = self._notify_address
        if not address:
            return
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0.5)
                sender.sendto(text.encode(), address)
        except OSError as error:
            self.problem = f"cannot send {text} by sd_notify: {error}"

    def _thread(self, name: str, body: Callable[[], None]) -> None:
        threading.Thread(name=name, target=body, daemon=True).start()

    def _worker(self, name: str) -> "queue.Queue[Optional[Callable[[], None]]]":
        waiting: "queue.Queue[Optional[Callable[[], None]]]" = queue.Queue(QUEUED_MAX)

        def body() -> None:
            while not self._closed:
                work = waiting.get()
                if work is None:
                    return
                work()

        self._thread(name, body)
        return waiting


class _Refusal(Exception):
    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def _offer(target: "queue.Queue[Any]", item: Any) -> bool:
    try:
        target.put_nowait(item)
        return True
    except queue.Full:
        return False


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdigit() else None


def _matches(pattern: str, subject: str) -> bool:
    patterns, names = pattern.split("."), subject.split(".")
    if patterns[-1] == "*" and len(names) > len(patterns):
        names = names[: len(patterns)]
    return len(patterns) == len(names) and all(
        one in ("*", name) for one, name in zip(patterns, names)
    )
