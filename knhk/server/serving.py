"""From the configuration to an open port and back: what is made, in which order it is opened, and how it ends."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from types import FrameType
from typing import Any, Final

import attrs
from waitress.server import BaseWSGIServer, create_server

from knhk.errors import MissingExtra, StoreError
from knhk.ports import Clock, Store
from knhk.server.archive import DAY, Archive
from knhk.server.audit import AuditLog
from knhk.server.background import Background
from knhk.server.census import Census
from knhk.server.components import components
from knhk.server.configuration import Algorithm, Configuration, ConfigurationError, secret_of, variable
from knhk.server.connection import Channel, Ending
from knhk.server.console.mounting import mount
from knhk.server.endpoint import read_endpoint
from knhk.server.figures import Figures
from knhk.server.gauges import Gauges
from knhk.server.health import NAME, Health
from knhk.server.identity import verifier_of
from knhk.server.leaving import Leaving
from knhk.server.metering import metered
from knhk.server.observing import log_traces
from knhk.server.rates import Rates
from knhk.server.rest import MOST_BYTES, HttpGate, application
from knhk.server.service import Service
from knhk.server.tenants import Tenants
from knhk.stores import open_store
from knhk.system import SystemClock
from knhk.work.ownership import Ownership

LOG: Final = logging.getLogger("knhk.server")
KEY_FILE: Final = "jwt-secret"
AUDIT_KEY_FILE: Final = "audit-key"
ARCHIVE: Final = "audit-archive"
_THREADS: Final = 16
_CONNECTIONS: Final = 1_000
_IDLE: Final = 30
_ALL_ADDRESSES: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - what is not told as an address
_LOOKS: Final = 0.02
"""Seconds between looks at whether the end has come further."""


@attrs.define
class Application:
    """
    Everything that serves, made and not yet listening.

    Attributes:
        wsgi: the application.
        made_key: the file of a key that was made just now, or None.
        exporting: sends spans (`knhk.server.exporting.Exporting`); None where no collector is configured.
        rpc: serves gRPC (`knhk.server.rpc.listening.RpcServer`); None where no port is configured.
    """

    settings: Configuration
    store: Store
    service: Service
    tenants: Tenants
    audit: AuditLog | None
    archive: Archive | None
    health: Health
    figures: Figures
    background: Background
    ownership: Ownership | None
    wsgi: Any
    made_key: Path | None
    census: Census
    rates: Rates | None
    exporting: Any = None
    rpc: Any = None

    def start(self) -> None:
        """
        Begin what goes on in the background: the record is sealed, automatic work is done.

        Raises:
            CommandError: another instance on the store has this one's name.
        """
        if self.ownership is not None:
            self.ownership.start()
        if self.exporting is not None:
            self.exporting.start()
            log_traces(self.exporting.tracer.ids)
        if self.audit is not None:
            self.audit.start()
        if self.archive is not None:
            self.archive.start()
        self.background.start()
        self.census.start()
        if self.rpc is not None:
            self.rpc.start()

    def close(self, patience: float = 30.0) -> None:
        """End in order: nothing new, what runs ends, the record is sealed, the store is given back."""
        self.health.draining = True
        self.service.polls.end()
        end = time.monotonic() + patience
        if self.rpc is not None:
            self.rpc.stop(patience)
        self.census.stop()
        if self.ownership is not None:
            self.ownership.drain()
        self.background.stop(patience)
        if self.ownership is not None:
            with suppress(StoreError):
                # Where the store is away the others see that this instance is silent.
                self.ownership.stop()
        closing = threading.Thread(target=self.service.close, daemon=True)
        closing.start()
        closing.join(max(end - time.monotonic(), 0.0))
        if self.archive is not None:
            self.archive.stop()
        if self.audit is not None:
            self.audit.stop()
        self.health.close()
        if self.exporting is not None:
            self.exporting.close(max(end - time.monotonic(), 0.1))
        if self.rates is not None:
            self.rates.close()
        self.store.close()


def package_version() -> str:
    """Return the version of the package, without what marks a development of it."""
    return metadata.version("knhk").partition(".dev")[0]


def make(settings: Configuration, *, store: Store | None = None) -> Application:
    """
    Make everything that the configuration asks for.

    Raises:
        ConfigurationError: a file or module that it names cannot be used.
        StoreError: the store cannot be opened.
    """
    directory = _state_directory(settings)
    opened = open_store(settings.store, durability=settings.durability.value) if store is None else store
    try:
        return _made(settings, opened, directory)
    except BaseException:
        opened.close()
        raise


def _made(settings: Configuration, store: Store, directory: Path | None) -> Application:
    clock = SystemClock()
    told = {"instance": settings.instance_id, "region": settings.region}
    figures = Figures(**told)
    store = metered(store, figures)
    secret, made = _secret(settings, directory)
    if settings.audit_key_file:
        audit_key = Path(settings.audit_key_file).read_bytes().strip()
    else:
        audit_key = _own_key(directory, AUDIT_KEY_FILE)[0]
    audit = AuditLog(store, settings.instance_id, audit_key, now=clock.now) if settings.audit_enabled else None
    exporting = _exporting(settings)
    tracer = None if exporting is None else exporting.tracer
    ownership = _ownership(settings, store, clock)
    modules = [each.strip() for each in settings.handlers.split(",") if each.strip()]
    try:
        tenants = Tenants(store, modules, clock=clock, instance=ownership, tracer=tracer, measured=True)
    except ImportError as error:
        raise ConfigurationError([f"{variable('handlers')}={settings.handlers!r}: {error}"]) from error
    try:
        verifier = verifier_of(settings, secret) if settings.auth_enabled else None
    except (ValueError, OSError) as error:
        raise ConfigurationError([f"{variable('jwt_public_key_file')}: {error}"]) from error
    if exporting is not None:
        figures.ask(exporting.figures)
    off = {
        "auth": variable("auth_enabled"),
        "audit": variable("audit_enabled"),
        "rate-limit": variable("rate_limit_enabled"),
    }
    switched = (settings.auth_enabled, settings.audit_enabled, settings.rate_limit_enabled)
    service = Service(tenants, audit)
    background = Background(tenants, clock)
    census = Census(store, lambda: [each.store for each in tenants.engines()], time.monotonic, clock.now)
    figures.ask(Gauges(tenants, background, audit, census))
    health = Health(
        store,
        audit,
        background,
        version=package_version(),
        switched_off={
            **{name: f"{key} is false" for (name, key), on in zip(off.items(), switched, strict=True) if not on},
            **(
                {"workload-identity": f"not built; {settings.trust_domain} is not used"}
                if settings.trust_domain
                else {}
            ),
        },
        told={name: value for name, value in told.items() if value},
        seconds=time.monotonic,
        ownership=ownership,
        more={
            **components(census, tenants.engines),
            **({} if exporting is None else {"exporter": exporting.health}),
        },
    )
    rates = _rates(settings) if settings.rate_limit_enabled else None
    gate = HttpGate(service, verifier, rates, audit, figures, clock.now, region=settings.region, tracer=tracer)
    wsgi = application(gate, health, version=package_version())
    mount(wsgi, gate)
    return Application(
        settings=settings,
        store=store,
        service=service,
        tenants=tenants,
        audit=audit,
        archive=_archive(settings, store, directory, audit_key, clock),
        health=health,
        figures=figures,
        background=background,
        ownership=ownership,
        wsgi=wsgi,
        made_key=made,
        census=census,
        rates=rates,
        exporting=exporting,
        rpc=_rpc(settings, gate, health),
    )


def _rpc(settings: Configuration, gate: HttpGate, health: Health) -> Any:
    """Return what serves gRPC; None where no port is configured."""
    if settings.grpc_port is None:
        return None
    try:
        library = import_module("knhk.server.rpc.listening")
    except MissingExtra as error:
        raise ConfigurationError([f"{variable('grpc_port')}: {error}"]) from error
    return library.RpcServer(settings, gate, health)


def _rates(settings: Configuration) -> Rates:
    if not settings.counts:
        return Rates(settings.rate_limit, settings.rates)
    try:
        common = import_module("knhk.server.counts").CommonCounts(settings.counts)
    except (MissingExtra, StoreError) as error:
        raise ConfigurationError([f"{variable('rate_limit_store')}: {error}"]) from error
    return Rates(settings.rate_limit, settings.rates, common)


def _ownership(settings: Configuration, store: Store, clock: Clock) -> Ownership | None:
    if not settings.shares:
        return None
    address = _address(settings, settings.api_port)
    return Ownership(
        store, settings.instance_id, lease=settings.lease, clock=clock, address=address, region=settings.region
    )


def _address(settings: Configuration, port: int) -> str:
    """Return where an instance can be reached: at the machine's name where it listens on all addresses, which are none."""
    host = socket.gethostname() if settings.api_host in _ALL_ADDRESSES else settings.api_host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _exporting(settings: Configuration) -> Any:
    """Return what sends spans to the collector; None where none is configured."""
    if not settings.otel_endpoint:
        return None
    try:
        library = import_module("knhk.server.exporting")
    except MissingExtra as error:
        raise ConfigurationError([f"{variable('otel_endpoint')}: {error}"]) from error
    resource = {
        "service.name": NAME,
        "service.version": package_version(),
        "service.instance.id": settings.instance_id,
        "cloud.region": settings.region,
    }
    about = {name: value for name, value in resource.items() if value}
    return library.Exporting(read_endpoint(settings.otel_endpoint), about, time.monotonic)


def _state_directory(settings: Configuration) -> Path | None:
    """Make the state directory, for nobody else's eyes; None where the store is elsewhere."""
    if settings.store == settings.state_path:
        return None
    directory = Path(settings.state_path)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError([f"{variable('state_path')}={settings.state_path!r}: {error.strerror}"]) from error
    return directory


def _secret(settings: Configuration, directory: Path | None) -> tuple[bytes, Path | None]:
    """Return the key of HS256: the configured one, else one of our own, made when it is first needed."""
    if not settings.auth_enabled or settings.jwt_algorithm is not Algorithm.HS256:
        if settings.auth_enabled and not settings.jwt_public_key_file and not settings.jwt_jwks_url:
            raise ConfigurationError(
                [f"{variable('jwt_algorithm')}={settings.jwt_algorithm.value} needs {variable('jwt_public_key_file')}"]
            )
        return b"", None
    configured = secret_of(settings)
    return (configured, None) if configured else _own_key(directory, KEY_FILE)


def _archive(
    settings: Configuration, store: Store, directory: Path | None, key: bytes, clock: SystemClock
) -> Archive | None:
    if not settings.audit_enabled or not settings.audit_retention or directory is None:
        return None
    return Archive(store, key, directory / ARCHIVE, int(settings.audit_retention * DAY), clock.now)


def _own_key(directory: Path | None, name: str) -> tuple[bytes, Path | None]:
    """Return a key kept in the state directory, and its file where it was made just now."""
    if directory is None:
        return secrets.token_hex(32).encode(), None
    path = directory / name
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes().strip(), None
    key = secrets.token_hex(32).encode()
    with os.fdopen(file, "wb") as opened:
        opened.write(key + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    return key, path


def listening(settings: Configuration) -> socket.socket:
    """Open the port that a configuration names; raises ConfigurationError where that cannot be."""
    try:
        family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
        return socket.create_server((settings.api_host, settings.api_port), family=family, backlog=1024)
    except OSError as error:
        where = f"{settings.api_host}:{settings.api_port}"
        names = f"{variable('api_host')}, {variable('api_port')}"
        raise ConfigurationError([f"{names}: cannot listen on {where}: {error.strerror}"]) from error


class Server:
    """
    Plain HTTP (waitress), with explicit limits.

    Args:
        made: what serves.
        listener: a socket that is listened on, of which other processes accept as well; None: one is opened.
    """

    def __init__(self, made: Application, listener: socket.socket | None = None) -> None:
        self._made = made
        self._socket = listening(made.settings) if listener is None else listener
        self.port: int = self._socket.getsockname()[1]
        if made.ownership is not None:
            made.ownership.address = _address(made.settings, self.port)
        server = create_server(
            made.wsgi,
            sockets=[self._socket],
            threads=_THREADS,
            connection_limit=_CONNECTIONS,
            channel_timeout=_IDLE,
            cleanup_interval=5,
            # select() looks at no file beyond the 1,024th, and there are others than connections.
            asyncore_use_poll=True,
            max_request_body_size=MOST_BYTES,
            max_request_header_size=65_536,
            ident=None,
            clear_untrusted_proxy_headers=True,
            expose_tracebacks=False,
        )
        # One socket, one server.
        assert isinstance(server, BaseWSGIServer)
        self._server = server
        self._ending = Ending()
        server.channel_class = partial(Channel, self._ending)  # type: ignore[assignment] # it is only called
        self._alone = listener is None
        self._over = False
        if made.rpc is not None:
            made.rpc.listen(shared=listener is not None)

    def run(self, ready: Callable[[int], None]) -> None:
        """Serve until SIGTERM or SIGINT, then end in order."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._end)
        self._made.start()
        serving = threading.Thread(target=self._server.run, name="knhk-http", daemon=True)
        serving.start()
        ready(self.port)
        while serving.is_alive() and not self._over:
            serving.join(_LOOKS)
        self._drain(serving)

    def _end(self, _: int, __: FrameType | None) -> None:
        # Nothing with a lock, which who is interrupted here may have.
        self._made.health.draining = True
        self._over = True

    def _drain(self, serving: threading.Thread) -> None:
        """Tell balancers that we end, answer what has arrived, and close."""
        begun = time.monotonic()
        patience = self._made.settings.drain_timeout
        self._made.health.draining = True
        self._made.service.polls.end()
        if self._made.ownership is not None:
            self._made.ownership.drain()
        self._ending.leaving = True
        leaving = Leaving([self._socket], patience, alone=self._alone)
        while not leaving.over():
            time.sleep(_LOOKS)
        self._made.service.leave()
        if self._made.rpc is not None:
            self._made.rpc.refuse(patience - (time.monotonic() - begun))
        self._ending.closing = True
        while self._server.active_channels and time.monotonic() - begun < patience:
            self._server.pull_trigger()
            time.sleep(_LOOKS)
        # In the loop, which would otherwise look at what is closed.
        trigger: Any = self._server.trigger
        trigger.pull_trigger(self._server.close)
        self._server.task_dispatcher.shutdown(timeout=max(1, int(patience - (time.monotonic() - begun))))
        serving.join(1.0)
        self._made.close(max(0.1, patience - (time.monotonic() - begun)))
        LOG.info("ended", extra={"seconds": round(time.monotonic() - begun, 3)})
