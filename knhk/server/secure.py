"""HTTPS, and client certificates (gunicorn): worker processes with threads, HTTP/2 where the client speaks it.

Gunicorn's parent process keeps the port and starts a worker again should it die; each worker has the store.
"""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import attrs

from knhk.errors import MissingExtra
from knhk.server.configuration import Configuration, ConfigurationError, variable
from knhk.server.leaving import Leaving, take_new
from knhk.server.serving import Application, make

try:
    from gunicorn.app.base import BaseApplication
    from gunicorn.workers.gthread import ThreadWorker
except ImportError as error:
    raise MissingExtra("tls", "serving with TLS") from error

_THREADS: Final = 16
_CONNECTIONS: Final = 1_000
_LOOKS: Final = 0.02


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """The process that answers."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.alive: bool
        self._leaving: Leaving | None = None

    def init_process(self) -> None:
        """Serve; a worker before this one may have told the kernel to take no new connection."""
        for each in self.sockets:
            take_new(each)
        super().init_process()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Say that this instance ends; what has arrived is accepted, and answered, before it does."""
        made = self.app.made
        if made is None:
            super().handle_exit(sig, frame)
        elif self._leaving is None:
            made.health.draining = True
            made.service.polls.end()
            self._leaving = Leaving(self.sockets, self.app.settings.drain_timeout, alone=True)
            # The loop wakes, and looks more often from now on.
            self.method_queue.defer(lambda: None)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do what has to be done now, and look how far the end has come."""
        leaving = self._leaving if self.alive else None
        super().wait_for_and_dispatch_events(timeout if leaving is None else min(timeout, _LOOKS))
        if leaving is not None and leaving.over():
            self.app.made.service.leave()
            self.alive = False


class SecureServer(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """
    Serves what a configuration with a certificate asks for.

    Args:
        settings: the configuration.
        ready: is told the port.
        workers: how many processes answer, each an instance on the store.

    Raises:
        ConfigurationError: certificate, key or client CA cannot be used.
    """

    def __init__(self, settings: Configuration, ready: Callable[[int], None], *, workers: int = 1) -> None:
        self.settings = settings
        self.workers = workers
        self.ready = ready
        self.made: Application | None = None
        _check(settings)
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what is configured."""
        settings = self.settings
        host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
        options: dict[str, Any] = {
            "bind": f"{host}:{settings.api_port}",
            "workers": self.workers,
            "threads": _THREADS,
            "worker_connections": _CONNECTIONS,
            "worker_class": Worker,
            "certfile": settings.tls_cert,
            "keyfile": settings.tls_key,
            "ssl_context": _context,
            "http_protocols": "h2,h1",
            "graceful_timeout": max(1, int(settings.drain_timeout)),
            "loglevel": "warning",
            "when_ready": lambda arbiter: self.ready(arbiter.LISTENERS[0].sock.getsockname()[1]),
            "worker_exit": lambda _, worker: worker.app.close(),
        }
        if settings.tls_client_ca:
            options |= {"ca_certs": settings.tls_client_ca, "cert_reqs": ssl.CERT_REQUIRED}
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make what serves, in the worker."""
        settings = self.settings
        if self.workers > 1:
            name = f"{settings.instance_id}-{os.getpid()}-{secrets.token_hex(3)}"
            settings = attrs.evolve(settings, instance_id=name)
        self.made = make(settings)
        if self.made.rpc is not None:
            self.made.rpc.listen(shared=True)
        self.made.start()
        return self.made.wsgi

    def close(self) -> None:
        """End what serves, in order."""
        if self.made is not None:
            self.made.close(self.settings.drain_timeout)


def _context(_: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _check(settings: Configuration) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (ssl.SSLError, OSError) as error:
        names = f"{variable('tls_cert')}, {variable('tls_key')}"
        raise ConfigurationError([f"{names}: the certificate and its key cannot be used: {error}"]) from error
    try:
        if settings.tls_client_ca:
            context.load_verify_locations(settings.tls_client_ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError([f"{variable('tls_client_ca')}: it cannot be used: {error}"]) from error
