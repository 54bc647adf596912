"""Instances of the service that are served in this process, over real sockets, and whose answers go wrong where a test says so."""

from __future__ import annotations

import asyncio
import inspect
import json
import socketserver
import threading
import wsgiref.simple_server
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from knhk.client import AsyncClient, Client
from knhk.client.operations import AsyncArea
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


class Awaited:
    """A client for asyncio, or a part of one, that is used like the other client: each call is awaited at once."""

    def __init__(self, target: AsyncArea, runner: asyncio.Runner) -> None:
        self._target, self._runner = target, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if isinstance(found, AsyncArea):
            return Awaited(found, self._runner)
        return self._called(found) if callable(found) else found

    def _called(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            made = method(*args, **named)
            return self._runner.run(_all(made) if inspect.isasyncgen(made) else made)

        return call


async def _all(found: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in found]


@contextmanager
def connected(kind: type[Client | AsyncClient], urls: list[str], **more: Any) -> Iterator[Any]:
    """A client of either kind whose waits take no time: it says them in `waits`."""
    waits: list[float] = []
    if issubclass(kind, Client):
        with kind(urls, **more) as client:
            client.transport._sleep = waits.append
            client.waits = waits  # type: ignore[attr-defined]
            yield client
        return

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    with asyncio.Runner() as runner:
        awaited = kind(urls, **more)
        awaited.transport._sleep = wait
        awaited.waits = waits  # type: ignore[attr-defined]
        yield Awaited(awaited, runner)
        runner.run(awaited.close())


@contextmanager
def instances(
    count: int = 1, *, kind: type[Client | AsyncClient] = Client, **more: Any
) -> Iterator[tuple[Any, list[Instance]]]:
    """Serve instances on one store, with a client for them whose waits take no time."""
    with ExitStack() as stack:
        store = Shared() if count > 1 else None
        made = [stack.enter_context(served(store=store, instance_id=f"i{n}")).made for n in range(count)]
        several = [Instance(each) for each in made]
        for each in several:
            stack.callback(each.end)
        yield stack.enter_context(connected(kind, [each.url for each in several], token=token(), **more)), several
