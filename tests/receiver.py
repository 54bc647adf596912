"""An HTTP server on the loopback, in a thread of its own, that keeps what it got and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Got(NamedTuple):
    """One request: names of headers in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What to answer; `raw` is written as it is, and then the connection is closed."""

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b""
    raw: Callable[[Any], None] | None = None


class Receiver:
    """A server; `answer` decides what each request gets. ``with Receiver() as receiver:``."""

    def __init__(self, answer: Callable[[Got], Answer] | None = None, *, context: Any = None) -> None:
        self.got: list[Got] = []
        self.answer = answer if answer is not None else (lambda got: Answer())
        receiver = self
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                if len(body) < length:
                    # Whoever sent it was killed meanwhile.
                    self.close_connection = True
                    return
                got = Got(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with lock:
                    receiver.got.append(got)
                answer = receiver.answer(got)
                if answer.raw is not None:
                    try:
                        answer.raw(self.wfile)
                    except OSError:
                        pass
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_one

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def url(self, path: str = "/", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """Return where the server is."""
        return f"{scheme}://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
