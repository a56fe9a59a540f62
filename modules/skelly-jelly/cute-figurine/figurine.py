#!/usr/bin/env python3
"""cute-figurine: draws the companion's mood as text and as SVG.

Owns figurine.txt and figurine.svg, each replaced whole.
Never needs anything but Python's standard library: it speaks plain sd_notify, no SDK.
"""

import argparse
import html
import json
import os
import pathlib
import signal
import socket
import sys
import threading

# mood: (eyes, mouth, colour, what the status says)
MOODS = {
    "sleepy": ("- -", "o", "#9db4c0", "dozes"),
    "content": ("o o", "u", "#a8d5ba", "is content"),
    "happy": ("^ ^", "w", "#ffd166", "is happy"),
    "proud": ("* *", "D", "#ef9fbb", "is proud"),
    "worried": ("O O", "~", "#f4a261", "is worried"),
}


def notify(*lines):
    """Sends sd_notify lines; without a receiver nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0.5)
            sender.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        print(f"cute-figurine: cannot notify: {error}", file=sys.stderr, flush=True)


def read_companion(path):
    """The newest message; a file that is missing or odd gives a sleepy figure."""
    try:
        message = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        message = {}
    if not isinstance(message, dict):
        message = {}
    mood = message.get("mood")
    return {
        "mood": mood if mood in MOODS else "sleepy",
        "text": str(message.get("text") or "Zzz."),
        "level": str(message.get("level") or 1),
        "points": str(message.get("points") or 0),
    }


def draw_text(message):
    eyes, mouth, _, _ = MOODS[message["mood"]]
    return (
        "   .-----.\n"
        f"  (  {eyes}  )   {message['text']}\n"
        f"  |   {mouth}   |   level {message['level']}, {message['points']} points\n"
        "   `-:-:-'\n"
        "    |=|=|\n"
        "    / | \\\n"
        "   ~  ~  ~\n"
    )


def draw_svg(message):
    eyes, mouth, colour, _ = MOODS[message["mood"]]
    left, right = eyes.split(" ")
    words = html.escape(message["text"])
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 300" role="img">\n'
        f"  <title>{words}</title>\n"
        f'  <path d="M40 130 a80 80 0 0 1 160 0 z" fill="{colour}"/>\n'
        '  <g stroke="#444" stroke-width="4" fill="none" stroke-linecap="round">\n'
        '    <path d="M80 140 v60 M120 140 v80 M160 140 v60"/>\n'
        '    <path d="M70 160 h100 M75 180 h90"/>\n'
        "  </g>\n"
        '  <g font-family="monospace" font-size="30" text-anchor="middle" fill="#333">\n'
        f'    <text x="95" y="95">{html.escape(left)}</text>\n'
        f'    <text x="145" y="95">{html.escape(right)}</text>\n'
        f'    <text x="120" y="122">{html.escape(mouth)}</text>\n'
        "  </g>\n"
        '  <g font-family="sans-serif" font-size="10" text-anchor="middle" fill="#333">\n'
        f'    <text x="120" y="250">{words}</text>\n'
        f'    <text x="120" y="270">level {html.escape(message["level"])}, '
        f'{html.escape(message["points"])} points</text>\n'
        "  </g>\n"
        "</svg>\n"
    )


def replace(path, content):
    """A reader sees the old file or the new one, never half of it."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(content, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def draw(message, folder):
    replace(folder / "figurine.txt", draw_text(message))
    replace(folder / "figurine.svg", draw_svg(message))


def changed(path):
    """What changes when the file is replaced; None while it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def watch_interval():
    """How long to wait between two looks: half a second, or less for an impatient watchdog."""
    try:
        usec = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        usec = 0
    return min(0.5, usec / 2_000_000) if usec > 0 else 0.5


def main():
    parser = argparse.ArgumentParser(description="Draws the companion's mood as text and SVG.")
    parser.add_argument("--companion", type=pathlib.Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        seen = changed(arguments.companion)
        message = read_companion(arguments.companion)
        draw(message, arguments.out)
    except OSError as error:
        print(f"cute-figurine: cannot draw: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"cute-figurine: draws into {arguments.out}", flush=True)
    notify("READY=1", f"STATUS={MOODS[message['mood']][3]}")
    interval = watch_interval()
    while not stop.wait(interval):
        now = changed(arguments.companion)
        if now != seen:
            message = read_companion(arguments.companion)
            try:
                draw(message, arguments.out)
                seen = now
                notify(f"STATUS={MOODS[message['mood']][3]}")
            except OSError as error:
                # Tried again at the next look; the watchdog is fed, the status tells.
                notify(f"STATUS=cannot draw: {error}")
        notify("WATCHDOG=1")
    notify("STOPPING=1")
    print("cute-figurine: good bye", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
