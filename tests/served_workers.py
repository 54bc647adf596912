"""Served instances to end and to kill, forked from a process that has imported everything."""

from __future__ import annotations

from pathlib import Path

from nursery import Nursery, Worker

from tests.served import SECRET

_SERVES = """
import sys
from knhk.server.configuration import load
from knhk.server.serving import Server, make
settings = load(dict(each.split("=", 1) for each in sys.argv[1:])).settings
Server(make(settings)).run(lambda port: print(port, flush=True))
"""


def serving_nursery() -> Nursery:
    """What forks them."""
    return Nursery(_SERVES, "knhk.server.serving", "sqlite_utils")


def start_serving(nursery: Nursery, state: Path, **settings: str) -> tuple[Worker, int]:
    """Start an instance; returns it and its port."""
    given = {"STATE_PATH": str(state), "API_PORT": "0", "JWT_SECRET": SECRET, "RATE_LIMIT": "1000000", **settings}
    worker = nursery.start(*(f"WORKFLOW_{name}={value}" for name, value in given.items()))
    said = worker.stdout.readline()
    assert said, worker.stderr.read().decode()
    return worker, int(said)
