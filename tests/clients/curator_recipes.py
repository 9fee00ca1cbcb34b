#!/usr/bin/env python3
"""Curator 5.9.0, unmodified: framework and recipes."""

import harness


def play(server):
    with harness.compiled("Checks.java", "CuratorRecipes.java") as classes:
        return harness.relay(harness.java("CuratorRecipes", server.address, classes=classes), 500)


if __name__ == "__main__":
    harness.serve(__doc__, play)
