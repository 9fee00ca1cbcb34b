#!/usr/bin/env python3
"""Apache's own Java client 3.9.5, unmodified: every call of its API, watches across reconnects, sessions."""

import harness


def play(server):
    with harness.compiled("Checks.java", "PlainClient.java") as classes:
        return harness.relay(harness.java("PlainClient", server.address, classes=classes), 400)


if __name__ == "__main__":
    harness.serve(__doc__, play)
