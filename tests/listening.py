"""Instances of the service that are served in this process, over real sockets, and whose answers go wrong where a test says so."""

from __future__ import annotations

import json
import socketserver
import threading
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from knhk.client import Client
from knhk.stores.memory import MemoryStore
from tests.served import served, token

Faults = list[tuple[str, str, dict[str, str]]]


class Shared(MemoryStore):
    """A store that several instances have: the first that ends does not end it for the others."""

    def close(self) -> None:
        pass


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Says nothing of requests."""

    def log_message(self, *_: Any) -> None:
        pass


class Threads(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A thread for each request."""

    daemon_threads = True


class Instance:
    """A served instance, what it was asked, and how its next answers are to go wrong."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.faults: Faults = []
        self.asked: list[str] = []
        self.server = wsgiref.simple_server.make_server("127.0.0.1", 0, self, Threads, Quiet)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if not environ["PATH_INFO"].startswith("/health/ready"):
            self.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            if self.faults:
                status, kind, headers = self.faults.pop(0)
                if kind == "lost":
                    list(self.made.wsgi(environ, lambda *_: None))
                start(status, [("Content-Type", "application/problem+json"), *headers.items()])
                return [json.dumps({"type": f"urn:knhk:problem:{kind}", "title": kind}).encode()] if kind else [b"?"]
        return self.made.wsgi(environ, start)

    def end(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def instances(count: int = 1, **more: Any) -> Iterator[tuple[Client, list[Instance]]]:
    """Serve instances on one store, with a client for them whose waits take no time."""
    with ExitStack() as stack:
        store = Shared() if count > 1 else None
        made = [stack.enter_context(served(store=store, instance_id=f"i{n}")).made for n in range(count)]
        several = [Instance(each) for each in made]
        for each in several:
            stack.callback(each.end)
        client = stack.enter_context(Client([each.url for each in several], token=token(), **more))
        client.waits = []  # type: ignore[attr-defined]
        client.transport._sleep = client.waits.append  # type: ignore[attr-defined]
        yield client, several
