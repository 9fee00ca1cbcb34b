#!/usr/bin/env python3
"""The C client 3.8.0, unmodified: its shell `cli_mt` driven by a pipe, and its library driven by a program."""

import os
import re
import selectors
import subprocess
import tempfile
import time

import harness

# What to type, and what must come before the next is typed.
DIALOGUE = [
    ("", r"Got a new session id: 0x[0-9a-f]+"),
    ("create /cli", r"\[/cli\]: rc = 0\n\s+name = /cli"),
    ("create +e /cli/e", r"\[/cli/e\]: rc = 0"),
    ("create +s /cli/s-", r"\[/cli/s-\]: rc = 0\n\s+name = /cli/s-0000000001"),
    ("create2 +c /cli/box", r"\[/cli/box\]: rc = 0\n\s+name = /cli/box"),
    ("create2 +t=5000 /cli/ttl", r"\[/cli/ttl\]: rc = 0"),
    ("create /cli", r"\[/cli\]: rc = -110"),
    ("set /cli words", r"/cli: rc = 0"),
    ("get /cli", r"/cli: rc = 0\n value_len = 5\nwords"),
    ("exists /cli", r"version=1\saversion=0"),
    ("ls /cli", r"/cli: rc = 0\n(\t(e|s-0000000001|box|ttl)\n){4}"),
    ("ls2 /cli", r"/cli: rc = 0"),
    ("sync /cli", r"\[/cli\]: rc = 0\n\s+name = /cli"),
    ("wexists /cli/later", r"-101"),
    ("create /cli/later", r"(?s)Watcher CREATED_EVENT state = CONNECTED_STATE for path /cli/later"),
    ("addauth digest bob:secret", r""),
    ("delete /cli", r"-111"),
    ("delete /cli/later", r"/cli/later: rc = 0|/cli/later rc = 0"),
    ("get /none", r"-101"),
    ("config", r"rc = 0"),
]


def cli_mt(server):
    """One session of the shell: types a line, waits for its answer."""
    process = subprocess.Popen(["stdbuf", "-o0", harness.ENV["OSTLER_CLI_MT"], "-h", server.address], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text, selector = "", selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    try:
        for line, wanted in DIALOGUE:
            if line:
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
            deadline = time.monotonic() + 20
            while not (found := re.search(wanted, text)):
                left = deadline - time.monotonic()
                assert left > 0 and selector.select(left), f"{line!r} not answered by {wanted!r} but by {text!r}"
                part = os.read(process.stdout.fileno(), 65536)
                assert part, f"cli_mt ended at {line!r}: {text!r}"
                text += part.decode(errors="replace")
            text = text[found.end():]
        process.stdin.write(b"quit\n")
        process.stdin.flush()
        assert process.wait(20) == 0, process.returncode
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def play(server):
    well = True
    try:
        cli_mt(server)
        print(f"ok cli_mt: {len(DIALOGUE)} answers", flush=True)
    except AssertionError as problem:
        print(f"FAIL cli_mt: {problem}", flush=True)
        well = False
    with tempfile.TemporaryDirectory(prefix="ostler-c-") as build:
        program = os.path.join(build, "client")
        source = os.path.join(harness.HERE, "c", "client.c")
        subprocess.run(["gcc", "-std=gnu11", "-O1", "-Wall", "-DTHREADED", source, "-o", program, "-lzookeeper_mt", "-lpthread"], check=True)
        return harness.relay([program, server.address], 300) and well


if __name__ == "__main__":
    harness.serve(__doc__, play)
