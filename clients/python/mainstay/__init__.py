"""mainstay for Python: a module of a mainstay application, or a program that looks at one.

``Module`` is for a program that mainstay started; ``Client`` is for a user interface or a script.
Both need the standard library alone.
"""

from .client import Client
from .module import Call, ConfigChange, Health, Module
from .protocol import (
    ConnectionClosed,
    Event,
    LogLines,
    MainstayError,
    ModuleView,
    RequestRefused,
    SystemView,
)

__all__ = [
    "Call",
    "Client",
    "ConfigChange",
    "ConnectionClosed",
    "Event",
    "Health",
    "LogLines",
    "MainstayError",
    "Module",
    "ModuleView",
    "RequestRefused",
    "SystemView",
]
