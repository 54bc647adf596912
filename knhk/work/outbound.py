"""Requests to the outside: where they may go, and how an answer is kept within bounds.

Whoever can name a URL can make this process call it, also where only this process gets (SSRF: server-side request forgery).
So every request goes through `Outbound`:

1. The URL is read once, here; nothing else reads it again.
   Only ``http`` and ``https``, no user or password in it, a port that is allowed, and a host that all resolvers read alike.
2. Its host is resolved once, and every address that comes of it is looked at: one that is not public refuses the request.
3. The connection is made to an address that was looked at, so a resolver that answers otherwise the second time (DNS
   rebinding) changes nothing; the host's name goes into ``Host``, SNI and the check of the certificate.
4. Redirects are not followed: a 3xx is an answer like any other.
   Proxies that the environment names are not used.
5. An answer has a time and a size that it may not exceed, however slowly it drips.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn
from urllib.parse import SplitResult, urlsplit

import attrs

from knhk.errors import MissingExtra, OutboundRefused
from knhk.work._addresses import Address, Network, inner, is_metadata, why_denied

PORTS: Final = (80, 443, 8080, 8443)
"""The ports that need no word in the list of what is allowed."""

LONGEST_URL: Final = 8_000
"""Characters of a URL."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65_535
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host name (and port), as text; raises OSError where there are none."""


@attrs.frozen(kw_only=True)
class Target:
    """
    Where a request goes, once the URL was read.

    Args:
        url: as it was written.
        scheme: ``http`` or ``https``.
        host: the name in its ASCII form, or the address without brackets.
        port: the port.
        path: what is asked there: path and query, as sent.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the header ``Host`` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@attrs.frozen(kw_only=True)
class Response:
    """
    What came back.

    Args:
        status: the number.
        headers: by name in small letters; several of a name are joined by a comma.
        body: the bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class _Allowed:
    """One entry of the list of what is allowed: a network or a host, and a port (None: those of the policy)."""

    network: Network | None
    host: str
    port: int | None

    def covers(self, host: str, address: Address) -> bool:
        """Whether the entry speaks of this address of this host."""
        if self.network is None:
            return self.host == host.rstrip(".")
        if is_metadata(address) and self.network.num_addresses > 1:
            return False
        return address in self.network


class Outbound:
    """
    What this engine may call, and how long and how much it listens.

    Args:
        allow: what may be called although it is not public: networks (``"10.1.0.0/16"``), addresses, and hosts by their exact
            names (``"hooks.internal"``), each with or without a port (``"hooks.internal:9000"``, ``"[fd00::/8]:9000"``).
            A port that is named there needs not be among `ports`.
            A network does not open a cloud's metadata service in it: that takes its very address.
        ports: the ports that may be called.
        credentials: headers by host, added to the requests that go there, so that no secret has to be in a specification or
            in the data of a case: ``{"bank.example": {"Authorization": "Bearer ..."}}``.
        ca_file: certificates of authorities to trust, in PEM; None: those of the system.
        connect_timeout: seconds until a connection stands.
        timeout: seconds until the answer is there, all in all, where the request does not say so.
        max_response: the most bytes of an answer.
        resolve: finds the addresses of a host; for tests.

    Raises:
        ValueError: an entry of `allow` cannot be read.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        ports: Iterable[int] = PORTS,
        credentials: Mapping[str, Mapping[str, str]] | None = None,
        ca_file: str | None = None,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        max_response: int = 1_048_576,
        resolve: Resolve | None = None,
    ) -> None:
        self._allowed = tuple(_read_allowed(each) for each in allow)
        self._ports = frozenset(ports)
        self._credentials = {host.lower().rstrip("."): dict(each) for host, each in (credentials or {}).items()}
        self._resolve = resolve if resolve is not None else _system_resolve
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self.max_response = max_response

    def read(self, url: str) -> Target:
        """
        Read a URL; nothing is resolved.

        Raises:
            OutboundRefused: it is none, or one that may never be called.
            MissingExtra: its host is not ASCII, and the library for that is not installed.
        """
        parts = _split(url)
        scheme = parts.scheme
        if scheme not in _DEFAULT_PORTS:
            _refuse(url, f"the scheme must be http or https, not {scheme!r}")
        if "@" in parts.netloc:
            _refuse(url, "a URL must not hold a user or a password")
        try:
            port = parts.port
        except ValueError:
            _refuse(url, "its port is no number from 1 to 65535")
        if port == 0:
            _refuse(url, "its port is no number from 1 to 65535")
        host = _read_host(url, parts)
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        return Target(url=url, scheme=scheme, host=host, port=port or _DEFAULT_PORTS[scheme], path=path)

    def addresses(self, target: Target) -> tuple[str, ...]:
        """
        Resolve the host of a URL and look at every address.

        Raises:
            OutboundRefused: one of them must not be called.
            OSError: there are none.
        """
        literal = _literal(target.host)
        texts = (target.host,) if literal is not None else tuple(self._resolve(target.host, target.port))
        if not texts:
            raise OSError(f"{target.host} has no address")
        for text in texts:
            address = ipaddress.ip_address(text.partition("%")[0])
            self._check(target, inner(address), "" if text == target.host else f" ({text})")
        return texts

    def check(self, url: str) -> Target:
        """
        Read a URL and look at where its host leads now; a host that is not found passes, as it may be there later.

        Raises:
            OutboundRefused: it must not be called.
        """
        target = self.read(url)
        try:
            self.addresses(target)
        except OSError:
            return target
        return target

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Response:
        """
        Send a request and return what came back, whatever its status is.

        Args:
            method: ``GET``, ``POST``, ...
            url: where to.
            headers: by name.
            body: the bytes, or None.
            timeout: seconds, all in all; None: the policy's.

        Raises:
            OutboundRefused: the URL must not be called.
            OutboundFailed: there was no answer, or none within the bounds of time and size.
            MissingExtra: the library is not installed.
        """
        client = _client()
        target = self.read(url)
        credentials = self._credentials.get(target.host.rstrip("."), {})
        answer: Response = client.exchange(
            self,
            target,
            method,
            headers={**(headers or {}), **credentials, "Host": target.authority},
            body=body,
            timeout=self.timeout if timeout is None else timeout,
        )
        return answer

    def tls(self) -> ssl.SSLContext:
        """Return what checks certificates; made once, because that reads all the authorities."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        return self._tls

    def _check(self, target: Target, address: Address, shown: str) -> None:
        covering = [each for each in self._allowed if each.covers(target.host, address)]
        if any(each.port == target.port for each in covering):
            return
        if target.port not in self._ports:
            ports = ", ".join(map(str, sorted(self._ports)))
            _refuse(target.url, f"port {target.port} is none of {ports}, and the allow list does not name it")
        if any(each.port is None for each in covering):
            return
        why = why_denied(address)
        if why:
            _refuse(target.url, f"{target.host}{shown} is {why}, and not on the allow list")


def require_client() -> None:
    """Raise MissingExtra where the library for requests is not installed."""
    _client()


def _client() -> Any:
    try:
        return import_module("knhk.work._http_client")
    except ImportError as error:
        raise MissingExtra("http", "a request to the outside") from error


def _refuse(url: str, why: str) -> NoReturn:
    shown = url if len(url) <= 200 else f"{url[:200]}..."
    raise OutboundRefused(f"{shown!r} cannot be called: {why}")


def _split(url: str) -> SplitResult:
    if len(url) > LONGEST_URL:
        _refuse(url, f"it is longer than {LONGEST_URL} characters")
    # A parser that drops a line break or reads a backslash as a slash sees another host than we do.
    if any(each <= " " or each in {"\x7f", "\\"} for each in url):
        _refuse(url, "a URL holds no blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        _refuse(url, str(error))
    if not parts.path.isascii() or not parts.query.isascii():
        _refuse(url, "its path and query must be ASCII; encode the rest with %")
    return parts


def _read_host(url: str, parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host:
        _refuse(url, "it names no host")
    if "[" in parts.netloc or ":" in host:
        if "%" in host or _literal(host) is None:
            _refuse(url, "the address in brackets is none")
        return host
    if not host.isascii():
        host = _to_ascii(url, host)
    if _NAME.fullmatch(host) is None:
        _refuse(url, f"{host!r} is no host name")
    # What ends in a number is an IPv4 address to some resolvers, decimal, octal or hexadecimal, and a name to others.
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) and _literal(host) is None:
        _refuse(url, f"{host!r} is no address that all resolvers read alike: write it as four decimal numbers")
    return host


def _to_ascii(url: str, host: str) -> str:
    try:
        library: Any = import_module("idna")
    except ImportError as error:
        raise MissingExtra("http", "a host name that is not ASCII") from error
    try:
        encoded: bytes = library.encode(host, uts46=True, std3_rules=True)
    except library.IDNAError as error:
        _refuse(url, f"{host!r} is no host name: {error}")
    return encoded.decode("ascii")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _system_resolve(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


def _read_allowed(entry: str) -> _Allowed:
    """Read ``network``, ``host``, each perhaps with ``:port``; a network of IPv6 with a port stands in brackets."""
    match = re.fullmatch(r"\[(?P<inside>[^\]]+)\](?::(?P<port>\d{1,5}))?", entry)
    if match is None and entry.count(":") <= 1:
        match = re.fullmatch(r"(?P<inside>[^:]+)(?::(?P<port>\d{1,5}))?", entry)
    inside, port = (entry, None) if match is None else (match["inside"], match["port"])
    number = None if port is None else int(port)
    if number is not None and not 1 <= number <= _MAX_PORT:
        raise ValueError(f"{entry!r} in the allow list: {number} is no port")
    try:
        return _Allowed(ipaddress.ip_network(inside), "", number)
    except ValueError:
        name = inside.lower().rstrip(".")
        if _NAME.fullmatch(name) is None or _NUMBER.fullmatch(name.rpartition(".")[2]):
            message = f"{entry!r} in the allow list is no network, address or host name, with or without a port"
            raise ValueError(message) from None
        return _Allowed(None, name, number)
