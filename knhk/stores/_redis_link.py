"""Connections to a Redis server: its address, what its settings make durable, and what its errors mean."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from knhk.errors import MissingExtra, StoreError, StoreFull, StoreUnavailable
from knhk.ports import Durability
from knhk.stores._lost import Lost
from knhk.stores._redis_scripts import FORMAT, Script
from knhk.stores._redis_wire import Wire, wire

try:
    from redis import exceptions
    from redis.connection import Connection, SSLConnection
except ImportError as error:
    raise MissingExtra("redis", "a store on Redis") from error

NAMESPACE: Final = "knhk"
"""The namespace of a URL that names none."""

_OPTIONS: Final = frozenset({"namespace", "appendfsync", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_PORT: Final = 6379
_OLDEST: Final = (6, 2)
_CONNECTIONS: Final = 32
_EVICTING: Final = "noeviction"
_WRITTEN: Final = "nothing was written"
_LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError)
_REFUSED_LOGIN: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)
_UNAVAILABLE: Final = (exceptions.BusyLoadingError, exceptions.ReadOnlyError, exceptions.MasterDownError)
# Some of these have classes in some versions of the library only.
_UNAVAILABLE_CODES: Final = (
    "BUSY",
    "MISCONF",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
)


@attrs.frozen(kw_only=True)
class Address:
    """
    Where a store is.

    Args:
        shown: the URL without user and password.
        namespace: whose keys these are.
        appendfsync: what the operator says that the server has, for where it does not say so itself; or "".
        secure: whether by TLS.
        options: how to connect, as `redis.Connection` takes it.
    """

    shown: str
    namespace: str
    appendfsync: str
    secure: bool
    options: Mapping[str, Any] = attrs.field(repr=False)


def read_address(url: str) -> Address:
    """Read a store's URL; raises StoreError, which never shows user or password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or _PORT
        database = int(parts.path.strip("/") or "0")
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        # The text of this error may hold a password.
        raise StoreError(f"a Redis URL is redis://user:password@host:{_PORT}/0?namespace={NAMESPACE}") from None
    query = dict(given)
    unknown = sorted(query.keys() - _OPTIONS)
    if unknown or len(query) != len(given):
        raise StoreError(
            f"a Redis URL takes each of {', '.join(sorted(_OPTIONS))} once, not {', '.join(unknown) or 'twice'}"
        )
    namespace = query.get("namespace", NAMESPACE)
    if _NAMESPACE.fullmatch(namespace) is None:
        raise StoreError(f"a namespace is 1 to 64 letters, digits and . _ : -, not {namespace!r}")
    if query.get("appendfsync", "no") not in {"always", "everysec", "no"}:
        raise StoreError(f"appendfsync is always, everysec or no, not {query['appendfsync']!r}")
    secure = parts.scheme.lower() == "rediss"
    files = {name: query[name] for name in sorted(query) if name.startswith("ssl_")}
    if files and not secure:
        raise StoreError(f"{', '.join(files)} is for rediss://, and this URL begins with redis://")
    return Address(
        shown=f"{parts.scheme.lower()}://{host}:{port}/{database}",
        namespace=namespace,
        appendfsync=query.get("appendfsync", ""),
        secure=secure,
        options={
            "host": host,
            "port": port,
            "db": database,
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            **files,
        },
    )


def refuse_weaker(shown: str, durability: Durability, settings: Mapping[str, str]) -> None:
    """
    Raise StoreError where a server's settings do not give the durability; what is not among them is not known.

    Args:
        shown: the server, for the message.
        durability: what is asked for.
        settings: `redis_version`, `maxmemory`, `maxmemory_policy`, `aof_enabled` as INFO has them, `appendfsync` and
            `no-appendfsync-on-rewrite` as CONFIG has them.
    """
    version = tuple(int(each) for each in re.findall(r"\d+", settings.get("redis_version", "0"))[:2])
    if version < _OLDEST:
        raise StoreError(
            f"{shown} is Redis {settings.get('redis_version')}: {'.'.join(map(str, _OLDEST))} or newer is needed"
        )
    policy = settings.get("maxmemory_policy", "")
    if settings.get("maxmemory", "0") != "0" and policy != _EVICTING:
        raise StoreError(f"{shown} has maxmemory-policy {policy}, which throws cases away: set it to {_EVICTING}")
    if durability is Durability.OFF:
        return
    if settings.get("aof_enabled") != "1":
        raise StoreError(f"{shown} has appendonly no: durability {durability.value} needs appendonly yes")
    fsync = settings.get("appendfsync")
    if fsync is None:
        raise StoreError(
            f"{shown} does not let this user read appendfsync: allow CONFIG GET, or say appendfsync=always in the URL"
        )
    needed = ("always",) if durability is Durability.FULL else ("always", "everysec")
    if fsync not in needed:
        raise StoreError(f"{shown} has appendfsync {fsync}: durability {durability.value} needs {' or '.join(needed)}")
    if durability is Durability.FULL and settings.get("no-appendfsync-on-rewrite", "no") != "no":
        raise StoreError(f"{shown} has no-appendfsync-on-rewrite yes: durability full needs no")


class Link:
    """
    Connections to one server, as many as there are threads that wait, up to 32; each is checked when it is made.

    Args:
        address: where.
        durability: what the server's settings must give.
        timeout: seconds that a call waits for an answer, and for a connection.
    """

    def __init__(self, address: Address, durability: Durability, timeout: float) -> None:
        self.address = address
        self.root = f"{{{address.namespace}}}:"
        self._durability = durability
        self._timeout = timeout
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._idle: list[Wire] = []
        self._busy = 0
        self._waiting = 0
        self._closed = False

    @property
    def timeout(self) -> float:
        """Seconds that a call waits for an answer."""
        return self._timeout

    def ask(self, *command: object) -> Any:
        """Return the answer to a command that may be repeated: a lost connection is made anew, once."""
        try:
            return self.tell(*command)
        except Lost:
            return self.tell(*command)

    def run(self, script: Script, *arguments: object) -> Any:
        """Return what a script returns that may be repeated."""
        try:
            return self.tell_script(script, *arguments)
        except Lost:
            return self.tell_script(script, *arguments)

    def tell_script(self, script: Script, *arguments: object) -> Any:
        """Send a script once; raises `Lost` where it is not known whether it ran."""
        command = ("EVALSHA", script.sha, 1, self.root, *arguments)
        try:
            return self.tell(*command)
        except _Unknown:
            # A server that was started again has forgotten it.
            self.tell("SCRIPT", "LOAD", script.text)
            return self.tell(*command)

    def tell(self, *command: object) -> Any:
        """Send a command once; raises `Lost` where it is not known whether it was done."""
        taken = self._take()
        good = False
        try:
            answer = taken.call(command)
            good = True
        except exceptions.ResponseError as error:
            good = True
            raise self._translated(error) from error
        except _LOST as error:
            # The others to the same server are likely to be as dead.
            self._drop_idle()
            raise self._translated(error, lost=True) from error
        except exceptions.RedisError as error:
            raise self._translated(error) from error
        finally:
            self._give_back(taken, good=good)
        return answer

    def refuse_closed(self) -> None:
        """Raise StoreUnavailable where the store was closed."""
        if self._closed:
            raise StoreUnavailable(f"the store {self.address.shown} is closed")

    def close(self) -> None:
        """Close the connections for good; those in use when they are given back."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self) -> Wire:
        """Return a connection that is nobody else's until it is given back."""
        with self._lock:
            if self._busy >= _CONNECTIONS:
                self._wait()
            idle = self._next()
            self._busy += 1
        try:
            while idle is not None and not idle.is_usable():
                idle.close()
                with self._lock:
                    idle = self._next()
            return self._connected() if idle is None else idle
        except BaseException:
            with self._lock:
                self._leave()
            raise

    def _wait(self) -> None:
        """Wait until fewer are busy; whoever calls this, and the next two, has the lock."""
        self._waiting += 1
        try:
            if not self._freed.wait_for(lambda: self._busy < _CONNECTIONS, self._timeout):
                raise StoreUnavailable(
                    f"{self.address.shown}: all {_CONNECTIONS} connections are busy; {_WRITTEN}, try again later"
                )
        finally:
            self._waiting -= 1

    def _next(self) -> Wire | None:
        self.refuse_closed()
        return self._idle.pop() if self._idle else None

    def _leave(self) -> None:
        self._busy -= 1
        if self._waiting:
            self._freed.notify()

    def _connected(self) -> Wire:
        kind = SSLConnection if self.address.secure else Connection
        connection: Any = kind(
            **self.address.options,
            protocol=2,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            socket_keepalive=True,
        )
        try:
            connection.connect()
            self._check(connection)
            made = wire(connection, self._timeout)
        except exceptions.RedisError as error:
            connection.disconnect()
            raise self._translated(error) from error
        except BaseException:
            connection.disconnect()
            raise
        return made

    def _check(self, connection: Any) -> None:
        """Refuse a server that is weaker than promised, and a namespace of a newer version."""
        settings = _information(_exchange(connection, "INFO"))
        if settings.get("loading") == "1":
            raise StoreUnavailable(f"{self.address.shown} is loading its data; {_WRITTEN}, try again later")
        if self.address.appendfsync:
            settings["appendfsync"] = self.address.appendfsync
        for name in ("appendfsync", "no-appendfsync-on-rewrite"):
            try:
                pair = _exchange(connection, "CONFIG", "GET", name)
            except exceptions.ResponseError:
                # Not this user's to read, or not a command of this service: then what the URL says stands.
                break
            if pair:
                settings[name] = pair[1].decode()
        refuse_weaker(self.address.shown, self._durability, settings)
        layout = _exchange(connection, "GET", f"{self.root}format")
        if layout is not None and int(layout) > FORMAT:
            raise StoreError(
                f"{self.address.shown} namespace {self.address.namespace} has layout {int(layout)}, this version of KNHK "
                f"reads up to {FORMAT}: it was written by a newer KNHK; upgrade this one"
            )

    def _give_back(self, taken: Wire, *, good: bool) -> None:
        with self._lock:
            self._leave()
            keep = good and not self._closed
            if keep:
                self._idle.append(taken)
        if not keep:
            taken.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _translated(self, error: Exception, *, lost: bool = False) -> StoreError:
        where, text = self.address.shown, str(error)
        if isinstance(error, exceptions.NoScriptError) or text.startswith("NOSCRIPT"):
            return _Unknown(f"{where}: {text}")
        if (
            isinstance(error, exceptions.OutOfMemoryError)
            or text.startswith("OOM")
            or "No space left on device" in text
        ):
            return StoreFull(f"no space is left at {where}: {text}; {_WRITTEN}, reading goes on")
        if isinstance(error, _REFUSED_LOGIN) or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            return StoreError(f"{where} refuses this user: {text}")
        if isinstance(error, _UNAVAILABLE) or text.startswith(_UNAVAILABLE_CODES):
            return StoreUnavailable(f"{where} is not available: {text}; {_WRITTEN}, try again later")
        if lost:
            return Lost(f"{where} did not answer: {text}")
        if isinstance(error, _LOST):
            return StoreUnavailable(f"{where} cannot be reached: {text}; {_WRITTEN}, try again later")
        return StoreError(f"{where}: {text}")


class _Unknown(StoreError):
    """The server does not know this script."""


def _exchange(connection: Any, *command: object) -> Any:
    connection.send_command(*command, check_health=False)
    return connection.read_response()


def _information(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
