"""Requests to an etcd cluster: its address, what can be seen of its settings, and what its errors mean."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from knhk.errors import StoreError, StoreFull, StoreUnavailable
from knhk.ports import Durability
from knhk.stores._etcd_channel import Refused, Security, Server, Unsent
from knhk.stores._etcd_messages import LOGIN, STATUS, Message, Method, api, grpc
from knhk.stores._lost import Lost

_Answer = TypeVar("_Answer", bound=Message)

NAMESPACE: Final = "knhk"
"""The namespace of a URL that names none."""

MOST_OPERATIONS: Final = 128
"""Operations of a transaction that etcd takes unless its ``--max-txn-ops`` says otherwise."""

_OPTIONS: Final = frozenset({"namespace", "max_txn_ops", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_PORT: Final = 2379
_OLDEST: Final = (3, 4)
_FEWEST_OPERATIONS: Final = 16
_SYNCS: Final = re.compile(rb"^etcd_disk_wal_fsync_duration_seconds_count (\S+)$", re.MULTILINE)
_WRITTEN: Final = "nothing was written"
_FULL: Final = ("database space exceeded", "no space")
_REFUSED_LOGIN: Final = (
    "authentication failed",
    "permission denied",
    "user name is empty",
    "authentication is not enabled",
)
_EXPIRED: Final = ("invalid auth token", "revision of auth store is old")
_FORGOTTEN: Final = "requested lease not found"
# These mean that it was never proposed; "request timed out" and "leader changed" mean that nobody knows.
_NOT_DONE: Final = ("no leader", "too many requests", "learner", "corrupt", "server stopped")
_COMPACTED: Final = "required revision has been compacted"


class Compacted(StoreError):
    """What is asked for at a revision is there only at a later one."""


class LeaseForgotten(StoreError):
    """The lease that a key was to be written under has ended; nothing was written."""


@attrs.frozen(kw_only=True)
class Address:
    """
    Where a store is.

    Args:
        shown: the URL without user and password.
        servers: host and port of each.
        namespace: whose keys these are.
        operations: how many a transaction may have.
        secure: whether by TLS.
        files: of TLS, by option.
        user, password: who logs in, or "".
    """

    shown: str
    servers: tuple[tuple[str, int], ...]
    namespace: str
    operations: int
    secure: bool
    files: Mapping[str, str]
    user: str = attrs.field(repr=False)
    password: str = attrs.field(repr=False)


def read_address(url: str) -> Address:
    """Read a store's URL; raises StoreError, which never shows user or password."""
    try:
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        servers = tuple(_server(each) for each in hosts.split(","))
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        query = dict(given)
        operations = int(query.get("max_txn_ops", MOST_OPERATIONS))
    except ValueError:
        # The text of this error may hold a password.
        raise StoreError(f"an etcd URL is etcd://user:password@host:{_PORT},host?namespace={NAMESPACE}") from None
    unknown = sorted(query.keys() - _OPTIONS)
    if unknown or len(query) != len(given) or parts.path.strip("/"):
        wrong = ", ".join(unknown) or parts.path or "one twice"
        raise StoreError(f"an etcd URL takes each of {', '.join(sorted(_OPTIONS))} once and no path, not {wrong}")
    namespace = query.get("namespace", NAMESPACE)
    if _NAMESPACE.fullmatch(namespace) is None:
        raise StoreError(f"a namespace is 1 to 64 letters, digits and . _ : -, not {namespace!r}")
    if operations < _FEWEST_OPERATIONS:
        raise StoreError(f"max_txn_ops is {_FEWEST_OPERATIONS} at least, not {operations}")
    scheme = parts.scheme.lower()
    files = {name: query[name] for name in sorted(query) if name.startswith("ssl_")}
    if files and scheme != "etcds":
        raise StoreError(f"{', '.join(files)} is for etcds://, and this URL begins with etcd://")
    user, _, password = login.partition(":")
    return Address(
        shown=f"{scheme}://{','.join(f'{host}:{port}' for host, port in servers)}",
        servers=servers,
        namespace=namespace,
        operations=operations,
        secure=scheme == "etcds",
        files=files,
        user=unquote(user),
        password=unquote(password),
    )


def _server(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or _PORT


class Link:
    """
    Requests to a cluster, to the next of its servers where one does not take them.

    Args:
        address: where.
        timeout: seconds that a request waits for its answer.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        security = _security(address.files) if address.secure else None
        self._servers = [Server(host, port, timeout, security) for host, port in address.servers]
        self._current = 0
        self._lock = threading.Lock()
        self._closed = False

    def refuse_closed(self) -> None:
        """Raise StoreUnavailable where the store was closed."""
        if self._closed:
            raise StoreUnavailable(f"the store {self.address.shown} is closed")

    def check(self, durability: Durability, probe: Callable[[], object]) -> None:
        """
        Refuse a server that is too old, and for `FULL` one that is seen not to sync.

        Args:
            durability: what is asked for.
            probe: writes something.

        Raises:
            StoreError: the server does not give it.
        """
        version = self._version()
        if version < _OLDEST:
            raise StoreError(f"{self.address.shown} is etcd {'.'.join(map(str, version))}: 3.4 or newer is needed")
        if durability is not Durability.FULL:
            return
        before = self._syncs()
        probe()
        after = self._syncs()
        if before is not None and after is not None and after <= before:
            raise StoreError(
                f"{self.address.shown} writes without syncing, as with --unsafe-no-fsync: durability full needs it without"
            )

    def ask(self, method: Method[_Answer], message: Message) -> _Answer:
        """Return the answer to a call that may be repeated: after a lost answer it is made again, once."""
        try:
            return self.tell(method, message)
        except Lost:
            return self.tell(method, message)

    def tell(self, method: Method[_Answer], message: Message) -> _Answer:
        """Make a call once; raises `Lost` where it is not known whether it was done."""
        self.refuse_closed()
        tried = 0
        renewable = bool(self.address.user)
        while True:
            number = self._current
            server = self._servers[number]
            try:
                if self.address.user and not server.token:
                    self._log_in(server)
                return self._answer(server, method, message)
            except _Expired:
                if not renewable:
                    self._turn_from(number)
                    raise
                # It was refused, so it may be sent again; only once, or a clock that is wrong would keep us here.
                renewable = False
                server.token = ""
            except StoreError as error:
                tried += 1
                self._turn_from(number)
                if not isinstance(error, _Unreached) or tried >= len(self._servers):
                    raise

    def close(self) -> None:
        """Close the connections for good."""
        self._closed = True
        for each in self._servers:
            each.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _answer(self, server: Server, method: Method[_Answer], message: Message) -> _Answer:
        """Return the answer of one server."""
        try:
            return server.call(method, message)
        except Unsent as error:
            where = self.address.shown
            raise _Unreached(f"{where} cannot be reached: {error}; {_WRITTEN}, try again later") from error
        except Refused as error:
            raise self._translated(error.said, judged=error.judged) from error

    def _log_in(self, server: Server) -> None:
        asked = api.AuthenticateRequest(name=self.address.user, password=self.address.password)
        server.token = self._answer(server, LOGIN, asked).token

    def _turn_from(self, number: int) -> None:
        with self._lock:
            if self._current == number:
                self._current = (number + 1) % len(self._servers)

    def _version(self) -> tuple[int, ...]:
        return tuple(int(each) for each in re.findall(r"\d+", self.ask(STATUS, api.StatusRequest()).version)[:2])

    def _syncs(self) -> float | None:
        """Return how often the server has synced its log; None where it does not say."""
        found = _SYNCS.search(self._servers[self._current].metrics() or b"")
        return None if found is None else float(found[1])

    def _translated(self, said: str, *, judged: bool) -> StoreError:
        where = self.address.shown
        if any(each in said for each in _FULL):
            return StoreFull(f"no space is left at {where}: {said}; {_WRITTEN}, reading goes on")
        for texts, kind in ((_REFUSED_LOGIN, StoreError), (_EXPIRED, _Expired)):
            if any(each in said for each in texts):
                return kind(f"{where} refuses this user: {said}")
        if _COMPACTED in said:
            return Compacted(f"{where}: {said}")
        if _FORGOTTEN in said:
            return LeaseForgotten(f"{where}: {said}")
        if any(each in said for each in _NOT_DONE):
            return StoreUnavailable(f"{where} is not available: {said}; {_WRITTEN}, try again later")
        if not judged:
            return Lost(f"{where} did not answer: {said}")
        if "too many operations" in said:
            said += f"; give the server a higher --max-txn-ops, or the URL ?max_txn_ops= what it has, not {self.address.operations}"
        return StoreError(f"{where}: {said}")


class _Unreached(StoreUnavailable):
    """The server took no connection."""


class _Expired(StoreError):
    """The login has ended; nothing was done."""


def _security(files: Mapping[str, str]) -> Security:
    """Return whom TLS trusts, and the certificate it shows; raises StoreError."""
    authorities, certificate = files.get("ssl_ca_certs"), files.get("ssl_certfile")
    key = files.get("ssl_keyfile", certificate)
    try:
        # It says what is wrong with the files, which gRPC does not.
        context = ssl.create_default_context(cafile=authorities)
        if certificate is not None:
            # With a password, so that nobody is asked for one.
            context.load_cert_chain(certificate, key, password="")
        trusted = _system_authorities(context) if authorities is None else Path(authorities).read_bytes()
        shown = None if certificate is None else Path(certificate).read_bytes()
        secret = None if certificate is None or key is None else Path(key).read_bytes()
    except (OSError, ValueError) as error:
        raise StoreError(f"{', '.join(files)} cannot be used: {error}") from error
    return Security(grpc.ssl_channel_credentials(trusted, secret, shown), context)


def _system_authorities(context: ssl.SSLContext) -> bytes | None:
    """Return the authorities that the system trusts; None where they are not in one file: then gRPC has its own."""
    found = context.get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None
