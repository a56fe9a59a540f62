#!/usr/bin/env python3
"""A status line for each module, and then what happens. `status.py NAME`; Ctrl-C ends it."""

import sys

from mainstay import Client, MainstayError

try:
    with Client(sys.argv[1] if len(sys.argv) > 1 else "mainstay") as mainstay:
        system = mainstay.status()
        print(f"{system['name']}: {system['status']} {system.get('reason') or ''}")
        for module in mainstay.modules():
            print(f"  {module['module']:<20} {module['state']:<10} {module.get('status_text') or ''}")
        for event in mainstay.events():
            print(f"{event['at']}  {event['kind']}  {event.get('module') or ''}", flush=True)
except MainstayError as error:
    sys.exit(f"status: {error}")
except KeyboardInterrupt:
    pass
